"""Children whose supervisor was killed before it could tell anybody of them.

A launch that has got to exec is a running container, and is taken over: its program must not
run twice. One that has not is killed. In between nobody may decide, so it is stopped first.
"""

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress

_INTERPRETER = "/memfd:bayplan"
"""What /proc/PID/exe says of a child before its exec, see runtime.kernel.selfexe."""
_STOP_S = 1.0
_GONE = (FileNotFoundError, ProcessLookupError)


def children_of(parent: int) -> dict[int, int]:
    """Return the children, zombies too, and when they started in ticks since boot."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdecimal() and (fields := _stat(int(name))) and int(fields[1]) == parent:
            found[int(name)] = int(fields[19])
    return found


def first_of(pids: Iterable[int]) -> list[int]:
    """Return those of *pids* whose parents are not among them."""
    group = set(pids)
    parents = {pid: int(fields[1]) for pid in group if (fields := _stat(pid))}
    return [pid for pid, parent in parents.items() if parent not in group]


def settle(pid: int, fifos: dict[str, int]) -> str | None:
    """Return whose first process *pid* is, or kill it.

    *fifos* are the stdout FIFOs of launches that were cut off, by name: it is the one that has
    a container's program and that FIFO as its standard output.
    """
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        if _is_stopped(pid) and (name := _output_of(pid, fifos)) is not None:
            os.kill(pid, signal.SIGCONT)
            return name
    kill(pid)
    return None


def kill(pid: int) -> None:
    """Kill a process and those of its process group, if it leads one."""
    for act in (os.killpg, os.kill):
        with suppress(ProcessLookupError):
            act(pid, signal.SIGKILL)


def _output_of(pid: int, fifos: dict[str, int]) -> str | None:
    try:
        if os.readlink(f"/proc/{pid}/exe").startswith(_INTERPRETER):
            return None
        output = os.stat(f"/proc/{pid}/fd/1")
    except _GONE:
        return None
    for name, fd in fifos.items():
        if os.path.samestat(os.fstat(fd), output):
            return name
    return None


def _is_stopped(pid: int) -> bool:
    deadline = time.monotonic() + _STOP_S
    while time.monotonic() < deadline:
        fields = _stat(pid)
        if not fields or fields[0] in b"ZX":
            return False
        if fields[0] == b"T":
            return True
        time.sleep(0.001)
    return False


def _stat(pid: int) -> list[bytes]:
    """Return the fields of /proc/PID/stat from the state on; none if there is no process."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            return file.read().rpartition(b")")[2].split()
    except _GONE:
        return []
