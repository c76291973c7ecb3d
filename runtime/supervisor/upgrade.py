"""Handing over to another version of ourselves, with nothing lost.

::

    client -> supervisor   upgrade, with the new version's sealed interpreter
    supervisor             runs the new version's check_state on a copy of what it keeps;
                           then waits for a moment without launches, the last of it taking in
                           nobody, or puts it off: one that hangs must not hold up everybody
    supervisor -> keeper   upgrade, and is gone
    keeper                 starts the next supervisor from the new version: on trial
    supervisor -> keeper   settled: it has adopted everything
    keeper                 becomes the new version's, by exec

What fails up to there leaves, or brings back, the old version. Clients see what they see when a
supervisor is killed: they are hung up on, connect again, and go on waiting.
"""

import errno
import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from runtime.errors import ContainerError, SupervisorError
from runtime.supervisor import codecopy
from runtime.supervisor.context import Context
from runtime.supervisor.loop import Timer
from runtime.supervisor.names import STATE_FD, Code
from runtime.supervisor.note import note
from runtime.supervisor.spawn import collect, spawn
from runtime.version import STATE_VERSION

_CHECK_S = 30.0
_QUIET_S = 1.0
"""How long a moment is waited for at which nothing is under way."""
_PAUSE_S = 1.0
"""How long after that everybody waits for the last of it."""
_LOOK_S = 0.01
_MOST_BYTES = 16384
_HOSTS_FAULT = (
    *("MemoryError", "BlockingIOError"),
    *(f"OSError: [Errno {number}]" for number in (errno.ENOMEM, errno.EMFILE, errno.ENFILE)),
)
"""Errors that a version which is not broken may end with."""


class Upgrade:
    """One attempt, from the request on. It ends in this process's end, or in *failed*."""

    def __init__(
        self,
        context: Context,
        code: Code,
        interpreter: int,
        *,
        state: dict[str, Any],
        quiet: Callable[[], bool],
        pause: Callable[[], None],
        failed: Callable[[ContainerError, bool], None],
    ) -> None:
        """Begin. *interpreter* is ours from now on; *state* are the containers, by id.

        *pause* is called when all is well but for what is under way: from there on nothing new
        may begin, until *failed*, which is told whether it was put off. ``quiet()`` tells whether
        nothing is any more.

        Raises:
            OSError: the host has nothing left for it.
        """
        self._context = context
        self._code = code
        self._interpreter = interpreter
        self._quiet = quiet
        self._pause = pause
        self._failed = failed
        self._said = os.memfd_create("said", os.MFD_CLOEXEC)
        copy = os.memfd_create("state", os.MFD_CLOEXEC)
        try:
            document = {"version": STATE_VERSION, "containers": state}
            with os.fdopen(os.dup(copy), "wb") as file:
                file.write(json.dumps(document).encode())
            fds = {STATE_FD: copy, 1: self._said, 2: self._said}
            module = "runtime.supervisor.check_state"
            self._pid, pidfd = spawn(
                context.loop, module, (), fds, code=code, interpreter=interpreter
            )
        except BaseException:
            os.close(self._said)
            os.close(interpreter)
            raise
        finally:
            os.close(copy)
        self._timer: Timer = context.loop.call_later(_CHECK_S, self._give_up_check)
        collect(context.loop, pidfd, self._checked)

    def _give_up_check(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)

    def _checked(self, code: int | None) -> None:
        self._timer.cancel()
        size = os.fstat(self._said).st_size
        said = os.pread(self._said, _MOST_BYTES, max(0, size - _MOST_BYTES))
        os.close(self._said)
        if code != 0:
            lines = said.decode(errors="replace").strip().splitlines()
            last = lines[-1] if lines else f"its check ended with {code}"
            # A host that has nothing left says nothing about the version, nor does a signal.
            ill = code is None or code < 0 or last.startswith(_HOSTS_FAULT)
            self._fail(last, broken=not ill)
            return
        now = time.monotonic()
        self._hand_over_before(now + _QUIET_S + _PAUSE_S, pause_at=now + _QUIET_S)

    def _hand_over_before(self, deadline: float, *, pause_at: float) -> None:
        if self._quiet():
            # Not through anything that would act on our end: it is none to anybody.
            self._context.link.hand_over(self._code, self._interpreter)
            os._exit(0)
        now = time.monotonic()
        if now > deadline:
            waited = _QUIET_S + _PAUSE_S
            self._fail(f"put off, since launches did not finish within {waited:g} s", put_off=True)
            return
        if now > pause_at:
            self._pause()
            pause_at = deadline
        self._context.loop.call_later(
            _LOOK_S, lambda: self._hand_over_before(deadline, pause_at=pause_at)
        )

    def _fail(self, reason: str, *, put_off: bool = False, broken: bool = False) -> None:
        os.close(self._interpreter)
        text = f"no upgrade to the version in {codecopy.origin(self._code.folder)}: {reason}"
        note(text)
        if broken:
            codecopy.condemn(self._code.folder, text)
        self._failed(SupervisorError(text), put_off)
