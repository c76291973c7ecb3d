"""What a group has used so far."""

from runtime.record import dataclass


@dataclass(frozen=True, slots=True)
class Stats:
    """One reading; None where this host (or this group) does not count it.

    Counters start at zero when the group is made and include groups nested in it.
    """

    cpu_ns: int | None = None
    cpu_user_ns: int | None = None
    cpu_system_ns: int | None = None
    periods: int | None = None
    """Scheduling periods in which the group ran while it had a cpu quota."""
    throttled_periods: int | None = None
    throttled_ns: int | None = None
    memory_bytes: int | None = None
    """Everything charged, page cache included."""
    memory_peak_bytes: int | None = None
    memory_limit_bytes: int | None = None
    """None also when there is no limit."""
    memory_cache_bytes: int | None = None
    """The part of memory_bytes the kernel can take back at once (inactive page cache)."""
    swap_bytes: int | None = None
    oom_kills: int | None = None
    pids: int | None = None
    pids_limit: int | None = None
    io_read_bytes: int | None = None
    io_write_bytes: int | None = None
    io_read_operations: int | None = None
    io_write_operations: int | None = None

    @property
    def memory_used_bytes(self) -> int | None:
        """Memory without the part the kernel can take back at once, as `docker stats` shows."""
        if self.memory_bytes is None:
            return None
        return max(0, self.memory_bytes - (self.memory_cache_bytes or 0))
