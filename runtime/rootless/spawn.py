"""Starting a process inside a user's namespaces, as a child of the holder."""

import fcntl
import os
import signal
from collections.abc import Callable, Mapping, Sequence

from runtime.errors import NetworkError
from runtime.rootless.namespaces import Namespaces

_HIGH = 64
"""Where descriptors are out of the way of the numbers they get."""


def spawn(
    inside: Namespaces,
    words: Sequence[str],
    environment: Mapping[str, str],
    fds: Sequence[int],
    numbers: Sequence[int],
    *,
    prepare: Callable[[], None],
) -> tuple[int, int]:
    """Execute the last of *fds* in a child that finds the others by *numbers*.

    *prepare* is called in the child first. Return its pid and a pidfd, when it has begun.

    Raises:
        NetworkError: it cannot be started; says why.
        OSError: the host has nothing left for it.
    """
    read, write = os.pipe()
    with open(read, "rb") as report:
        try:
            pid = os.fork()
            if pid == 0:
                _become(inside, words, environment, fds, numbers, write, prepare)
        finally:
            os.close(write)
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        problem = report.read().decode()
    if problem:
        os.waitpid(pid, 0)
        os.close(pidfd)
        raise NetworkError(f"cannot start {words[0]}: {problem}")
    return pid, pidfd


def _become(
    inside: Namespaces,
    words: Sequence[str],
    environment: Mapping[str, str],
    fds: Sequence[int],
    numbers: Sequence[int],
    report: int,
    prepare: Callable[[], None],
) -> None:
    """In the child: enter, put descriptors in their places, execute. Never returns."""
    try:
        os.setsid()
        prepare()
        inside.enter()
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _HIGH) for fd in fds]
        report = fcntl.fcntl(report, fcntl.F_DUPFD_CLOEXEC, _HIGH)
        for fd, number in zip(high[:-1], numbers, strict=True):
            os.dup2(fd, number)
        os.execve(f"/proc/self/fd/{high[-1]}", list(words), dict(environment))
    except Exception as error:
        os.write(report, (str(error) or repr(error)).encode(errors="replace"))
    finally:
        os._exit(127)
