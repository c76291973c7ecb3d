"""Processes of ours that the supervisor starts, and children it collects without waiting."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from signal import SIGKILL

from runtime.supervisor import exits
from runtime.supervisor.limits import environment
from runtime.supervisor.loop import IN, Loop
from runtime.supervisor.names import Code, own_code

LOOK_AGAIN_S = 0.1


def spawn(
    loop: Loop,
    module: str,
    arguments: Sequence[str],
    fds: dict[int, int] | None = None,
    *,
    code: Code | None = None,
    interpreter: int | None = None,
) -> tuple[int, int]:
    """Start a process that calls ``main(arguments)`` of *module*; return its pid and pidfd.

    It inherits nothing but standard streams and, by their numbers there, *fds*. It is of our own
    code, or else of *code*, run by the *interpreter* that is open there.

    Raises:
        OSError: the host has nothing left for it.
    """
    pid = os.posix_spawn(
        "/proc/self/exe" if interpreter is None else f"/proc/self/fd/{interpreter}",
        (code or own_code()).command(module, *arguments),
        environment(),
        file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in (fds or {}).items()],
        setsigmask=[],
    )
    try:
        return pid, os.pidfd_open(pid)
    except OSError:
        os.kill(pid, SIGKILL)
        _collect_unwatched(loop, pid)
        raise


def collect(
    loop: Loop, pidfd: int, collected: Callable[[int | None], None] = lambda _code: None
) -> None:
    """Collect a child as soon as it has ended, close its *pidfd* and call ``collected(code)``.

    The code is None if it was somebody else's child by then.
    """

    def ended(_events: int) -> None:
        loop.forget(pidfd)
        code = None
        with suppress(ChildProcessError):
            code = exits.peek(pidfd)
            if code is None:  # who traces it has not let it go: the event would come for ever
                loop.call_later(LOOK_AGAIN_S, partial(loop.watch, pidfd, IN, ended))
                return
            exits.reap(pidfd)
        os.close(pidfd)
        collected(code)

    loop.watch(pidfd, IN, ended)


def _collect_unwatched(loop: Loop, pid: int) -> None:
    """Collect a child nobody will tell the end of: no descriptor was left."""
    if os.waitpid(pid, os.WNOHANG) == (0, 0):
        loop.call_later(LOOK_AGAIN_S, partial(_collect_unwatched, loop, pid))
