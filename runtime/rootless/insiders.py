"""Who and what is inside a user's namespaces, seen from the holder outside."""

import errno
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from runtime.kernel.pidfd import pidfd_open
from runtime.kernel.procfs import Stat, read_mountinfo, read_stat
from runtime.rootless import resolver
from runtime.rootless.namespaces import KINDS, Namespaces
from runtime.rootless.slirp import LINK

PROC = "/proc"
_KILL_S = 10.0
_PAUSE_S = 0.01
_OURS = frozenset({"lo", LINK})
GONE = (FileNotFoundError, ProcessLookupError, PermissionError)
"""What looking at a process ends with if it has ended, or is somebody else's."""


def processes(numbers: Mapping[str, int], *, but: int = 0) -> Iterator[Stat]:
    """Yield the processes in the user namespace of *numbers*.

    Left out are the pid *but*, and those that are dead. Those in user namespaces below it are not
    named: they have nothing of ours, or end with those who made them.
    """
    for name in os.listdir(PROC):
        if name.isdecimal() and int(name) != but and is_in(int(name), numbers, ("user",)):
            stat = read_stat(int(name))
            if stat is not None and stat.state != "Z":
                yield stat


def is_in(pid: int, numbers: Mapping[str, int], kinds: Iterable[str] = KINDS) -> bool:
    """Tell whether a process is in the namespaces of *numbers*, as far as *kinds* names them."""
    try:
        return all(
            os.readlink(f"{PROC}/{pid}/ns/{kind}") == f"{kind}:[{numbers[kind]}]" for kind in kinds
        )
    except GONE:
        return False


def kill_all(numbers: Mapping[str, int], *, timeout_s: float = _KILL_S) -> None:
    """Kill all processes in the user namespace, also while they fork.

    The caller holds it, or its number could be another one's. A process that sleeps
    uninterruptibly is given up after *timeout_s*: it dies when it wakes.
    """
    deadline = time.monotonic() + timeout_s
    while (stats := list(processes(numbers))) and time.monotonic() < deadline:
        for stat in stats:
            with suppress(ProcessLookupError):
                pidfd = pidfd_open(stat.pid)
                try:
                    # Looked at again: the pid may be a stranger's by now.
                    if is_in(stat.pid, numbers, ("user",)):
                        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                finally:
                    os.close(pidfd)
        time.sleep(_PAUSE_S)


def own_mounts() -> list[int]:
    """Return the ids of the mounts in view that do not follow the host's: those made in here.

    But for the one everybody who enters may make.
    """
    return [
        mount.id
        for mount in read_mountinfo() or ()
        if not any(peers.startswith("master:") for peers in mount.propagation)
        and os.path.basename(mount.root) != resolver.FILE
    ]


def links() -> list[str]:
    """Return the network interfaces in view that neither the kernel nor the holder made."""
    return sorted({name for _, name in socket.if_nameindex()} - _OURS)


def look(namespaces: Namespaces, question: Callable[[], Any]) -> Any:
    """Return what *question*, asked inside by a process of its own, answers (as JSON).

    Raises:
        OSError: the process could not enter, or was killed; or what *question* raised.
    """
    read, write = os.pipe()
    with open(read, "rb") as file:
        try:
            pid = os.fork()
            if pid == 0:
                try:
                    os.write(write, json.dumps(_answer(namespaces, question)).encode())
                finally:
                    os._exit(0)
        finally:
            os.close(write)
        said = file.read()
    os.waitpid(pid, 0)
    if not said:
        raise OSError("nobody can look into the namespaces any more")
    answer, error = json.loads(said)
    if error is not None:
        raise OSError(*error)
    return answer


def _answer(namespaces: Namespaces, question: Callable[[], Any]) -> tuple[Any, Any]:
    """Return what *question* answers inside, or the number and the text of its error."""
    try:
        namespaces.enter()
        return question(), None
    except OSError as error:
        text = str(error).removeprefix(f"[Errno {error.errno}] ")
        return None, (error.errno or errno.EIO, text)
