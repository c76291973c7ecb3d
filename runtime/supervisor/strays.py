"""Children whose supervisor was killed before they were known to have got to their exec.

One that has is a running container, and is taken over: its program must not run twice. One that
has not is killed. In between nobody may decide, so it is stopped first.
"""

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from enum import Enum

from runtime.cgroup.files import write
from runtime.kernel import mask
from runtime.kernel.procfs import Stat, read_stat
from runtime.supervisor.names import COMM

_STOP_S = 1.0


class Fate(Enum):
    """What has become of such a child."""

    RUNS = 1
    """Its program does."""
    ENDED = 2
    """Its program has, and nobody has collected it yet."""
    UNBORN = 3
    """It had not got to its program, and is killed now."""
    GONE = 4
    """There is no trace of it."""


def decide(pid: int, *, start: int = 0) -> Fate:
    """Return what has become of *pid*, and kill it if it is not a container.

    With *start*, ticks since boot, another process that has that pid now is let be.
    """
    stat = read_stat(pid)
    if stat is None or (start and stat.start_ticks != start):
        return Fate.GONE
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
    stat = _stop(pid)
    if stat is None:
        return Fate.GONE
    executed = has_executed(stat.comm)
    if stat.state in "ZX":
        return Fate.ENDED if executed else Fate.UNBORN
    if executed:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        return Fate.RUNS
    kill(pid)
    return Fate.UNBORN


def has_executed(comm: str) -> bool:
    """Tell by its name whether a child has got to its exec, which gives it another name."""
    return comm != COMM


def name_of(pid: int) -> str:
    """Return the name of a process, or of a zombie; empty if there is none."""
    stat = read_stat(pid)
    return stat.comm if stat else ""


def is_child(pid: int) -> bool:
    """Tell whether *pid* is a child of this process: then nobody else can have reaped it."""
    stat = read_stat(pid)
    return stat is not None and stat.ppid == os.getpid()


def children_of(parent: int) -> dict[int, int]:
    """Return the children, zombies too, and when they started in ticks since boot."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdecimal() and (stat := read_stat(name)) and stat.ppid == parent:
            found[stat.pid] = stat.start_ticks
    return found


def first_of(pids: Iterable[int]) -> list[int]:
    """Return those of *pids* whose parents are not among them."""
    group = set(pids)
    parents = {pid: stat.ppid for pid in group if (stat := read_stat(pid))}
    return [pid for pid, parent in parents.items() if parent not in group]


def kill(pid: int) -> None:
    """Kill a process and those of its process group, if it leads one."""
    for act in (os.killpg, os.kill):
        with suppress(ProcessLookupError):
            act(pid, signal.SIGKILL)


def members(files: Iterable[str]) -> set[int]:
    """Return the processes in these ``cgroup.procs`` files, those there are."""
    pids: set[int] = set()
    for path in files:
        with suppress(FileNotFoundError), open(path, encoding="ascii") as file:
            pids |= set(map(int, file))
    return pids


def kill_members(files: Iterable[str]) -> None:
    """Kill all that is in the cgroups of these ``cgroup.procs`` files; waits for nothing.

    Where the kernel does not do it at once (version 1, or before 5.14), what is forked meanwhile
    is killed too, as far as it is there in the end.
    """
    for path in files if not mask.is_masked(mask.CGROUP_KILL) else ():
        with suppress(OSError):
            write(os.path.join(os.path.dirname(path), "cgroup.kill"), "1")
            return
    known: set[int] = set()
    while new := members(files) - known:
        for pid in new:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        known |= new


def _stop(pid: int) -> Stat | None:
    """Return what *pid* is once it is stopped or dead, or after a while as it is; None if gone."""
    deadline = time.monotonic() + _STOP_S
    while (stat := read_stat(pid)) and stat.state not in "TZX" and time.monotonic() < deadline:
        time.sleep(0.001)
    return stat
