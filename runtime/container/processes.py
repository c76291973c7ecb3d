"""The processes of a container, as /proc and its cgroup show them. Reads only."""

import os
import time

from runtime.cgroup import Cgroup
from runtime.kernel.procfs import (
    PROC,
    Status,
    read_stat,
    read_status,
    read_times,
    read_traffic,
)
from runtime.record import dataclass

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class ContainerProcess:
    """One process. Times in seconds."""

    pid: int
    """As the host sees it."""
    inner_pid: int
    """As the container sees it."""
    parent: int
    """Pid of its parent, as the host sees it."""
    uid: int
    """As the host sees it."""
    state: str
    """One letter, as in ps(1)."""
    age: float
    cpu_time: float
    rss_bytes: int
    command: tuple[str, ...]
    """Its arguments; the name in brackets where there are none."""


def network_traffic(pid: int) -> tuple[int, int] | None:
    """Return the bytes that reached a container's network, and left it; *pid* is its first process.

    None where it has none of its own, or has ended.
    """
    try:
        own = os.stat(f"/proc/{pid}/ns/net")
    except OSError:
        return None
    if os.path.samestat(own, os.stat("/proc/thread-self/ns/net")):
        return None
    found = read_traffic(pid)
    if found is None:
        return None
    each = [counted for name, counted in found.items() if name != "lo"]
    return sum(received for received, _ in each), sum(sent for _, sent in each)


def list_processes(group: Cgroup, *, proc: str = PROC) -> tuple[ContainerProcess, ...]:
    """Return the processes of the container with that cgroup, by pid; none of what has ended."""
    seen = [(pid, status) for pid in group.pids() if (status := read_status(pid, proc=proc))]
    # Its own pid namespace is that of the outermost; who made another inside has more numbers.
    depth = min((len(status.namespace_pids) for _, status in seen), default=0)
    found = (_look(pid, status, depth, proc) for pid, status in seen)
    return tuple(process for process in found if process is not None)


def _look(pid: int, status: Status, depth: int, proc: str) -> ContainerProcess | None:
    stat = read_stat(pid, proc=proc)
    cpu_ticks = read_times(pid, proc=proc)
    if stat is None or cpu_ticks is None:
        return None
    try:
        with open(f"{proc}/{pid}/cmdline", "rb") as file:
            words = file.read().decode(errors="replace").split("\0")[:-1]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return ContainerProcess(
        pid=pid,
        inner_pid=status.namespace_pids[depth - 1],
        parent=stat.ppid,
        uid=status.uids[1],
        state=stat.state,
        age=max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - stat.start_ticks / _TICKS),
        cpu_time=cpu_ticks / _TICKS,
        rss_bytes=status.rss_bytes,
        command=tuple(words) or (f"[{stat.comm}]",),
    )
