"""The v2 memory controller.

Source: Documentation/admin-guide/cgroup-v2.rst, Memory.
"""

from collections.abc import Iterator
from errno import EAGAIN, EINVAL

from runtime.cgroup import files
from runtime.cgroup.controller import Controller, number, table, write_changed
from runtime.cgroup.limits import memory_limits, not_offered
from runtime.cgroup.setting import Setting, parse_size, same_size
from runtime.errors import KernelError, StateError
from runtime.kernel import mask
from runtime.spec import Memory, Resources


def settings(resources: Resources) -> tuple[Setting, ...]:
    """Return the limits; swap on v2 is what comes on top of memory."""
    memory = resources.memory or Memory()
    limit, with_swap, reservation = memory_limits(memory)
    swap = None if limit is None or with_swap is None else with_swap - limit
    return (
        _size("memory.limit", "memory.max", limit),
        _size("memory.swap", "memory.swap.max", swap, "the kernel has no swap support"),
        _size("memory.reservation", "memory.low", reservation or 0),
        # Not in the specification's own words, only by `unified`; by hand they are drift.
        _size("unified.memory.high", "memory.high", None),
        Setting("unified.memory.oom.group", "memory.oom.group", "0", "0"),
        *_only_v1(memory),
    )


def _only_v1(memory: Memory) -> Iterator[Setting]:
    """Yield what is asked for and v2 has no file for; nested groups count here in any case."""
    if memory.swappiness is not None:
        why = "cgroup v2 has no swappiness"
        yield not_offered("memory.swappiness", "memory.swappiness", memory.swappiness, why)
    if memory.disable_oom_killer:
        why = "cgroup v2 cannot do without the OOM killer"
        yield not_offered("memory.disableOOMKiller", "memory.oom_control", 1, why)


def _size(field: str, file: str, value: int | None, why_absent: str = "") -> Setting:
    return Setting(
        field=field,
        file=file,
        value="max" if value is None else str(value),
        default="0" if file == "memory.low" else "max",
        same=same_size,
        may_be_absent=bool(why_absent),
        why_absent=why_absent,
    )


def apply(folder: str, wanted: tuple[Setting, ...], *, fresh: bool) -> list[Setting]:
    """Write the limits, but no memory limit below what is in use.

    v2 would take such a limit and kill members until it holds; v1 refuses it. We refuse it on
    both, after having asked for the pages back.

    Raises:
        StateError: more is in use than the new limit allows, and cannot be taken back.
    """
    limit = next(s for s in wanted if s.file == "memory.max")
    size = parse_size(limit.value)
    if not fresh and size is not None:
        _make_room(folder, size)
    return write_changed(folder, wanted, fresh=fresh)


def _make_room(folder: str, limit: int) -> None:
    used = number(folder, "memory.current") or 0
    if used <= limit:
        return
    try:
        if not mask.is_masked(mask.MEMORY_RECLAIM):
            files.write(f"{folder}/memory.reclaim", str(used - limit))
    except KernelError as error:
        # EAGAIN: less could be had than asked for. No such file before Linux 5.19.
        if not files.is_gone(error) and error.errno not in (EAGAIN, EINVAL):
            raise
    used = number(folder, "memory.current") or 0
    if used > limit:
        raise StateError(f"the memory limit cannot be {limit} bytes: {used} are in use")


def stats(folder: str) -> dict[str, int | None]:
    """Return memory and swap in use, peak (from Linux 5.19), limit, cache and kills."""
    return {
        "memory_bytes": number(folder, "memory.current"),
        "memory_peak_bytes": number(folder, "memory.peak"),
        "memory_limit_bytes": number(folder, "memory.max"),
        "memory_cache_bytes": table(folder, "memory.stat").get("inactive_file"),
        "swap_bytes": number(folder, "memory.swap.current"),
        "oom_kills": oom_kills(folder),
    }


def oom_kills(folder: str) -> int | None:
    """Return the kills in this group and those nested in it."""
    return table(folder, "memory.events").get("oom_kill")


MEMORY = Controller(
    name="memory",
    settings=settings,
    wanted=lambda resources: resources.memory is not None,
    apply=apply,
    stats=stats,
)
