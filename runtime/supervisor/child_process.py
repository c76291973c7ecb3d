"""A child from fork to end, seen from the event loop: launches, execs and exec probes.

What the keeper must know is told in the right order: intent, then the process, then, once its
end has been acted on, that it is gone. So nobody's exit code is lost by a supervisor that is
killed in between, and no child either.
"""

import errno
import os
import resource
import select
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from runtime.errors import LaunchError
from runtime.kernel.program import Operation, Program
from runtime.supervisor import exits, interpreter
from runtime.supervisor.context import Context
from runtime.supervisor.launch import Launch, Launched
from runtime.supervisor.limits import HOST_NOFILE
from runtime.supervisor.loop import IN, Timer
from runtime.supervisor.spawn import LOOK_AGAIN_S, collect

_UNKNOWN_AFTER_S = 2.0
"""How long after an end it is that nobody will tell of it any more."""
_KEEPER_TELLS_S = 60.0
"""The same of a child of the keeper's, who may be at a thousand others, on a busy host."""
_DEATH_S = 5.0
"""How long a launch that was given up may take to go, before that is told."""
_PROCESS_GROUP = 1 << 2
"""PIDFD_SIGNAL_PROCESS_GROUP, pidfd_send_signal(2)."""


def _as_without_us(program: Program) -> Program:
    """Undo what children would inherit of our own limits and our protection from OOM kills."""
    first: tuple[Operation, ...] = (("rlimit", resource.RLIMIT_NOFILE, *HOST_NOFILE),)
    # What the program says itself comes later, and wins.
    first += (("oom_score_adj", 0),)
    return Program(program.namespaces, (*first, *program.operations), program.cgroup)


class Starting:
    """A launch under way."""

    def __init__(
        self,
        context: Context,
        name: str,
        program: Program,
        *,
        standard: tuple[int | None, int | None, int | None] = (None, None, None),
        target: int | None = None,
        size: tuple[int, int] | None = None,
        timeout: float,
        forked: Callable[[int], None] = lambda _pid: None,
        done: Callable[[Launched], None],
        failed: Callable[[LaunchError], None],
    ) -> None:
        """Fork. Later either ``done(launched)`` or ``failed(error)`` is called, once.

        ``forked(pid)`` is called at once if there is a child, and again if that goes on as another
        process; neither does anything before.
        *name* is what the keeper knows it by; after *done* the process is announced. *standard*
        stays the caller's, who may close it at once. *size* is the terminal's, if there is one.
        """
        self._context = context
        self._name = name
        self._done = done
        self._failed: Callable[[LaunchError], None] | None = failed
        self._timeout = timeout
        self._launch: Launch | None = None
        self._error: LaunchError | None = None
        """Why it was given up."""
        context.link.intend(name)
        stdin, stdout, stderr = standard

        def admit(pid: int) -> None:
            context.link.forked(name, pid)
            forked(pid)

        try:
            launch = interpreter.start(
                _as_without_us(program),
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                target=target,
                size=size,
                admit=admit,
            )
        except (LaunchError, OSError) as error:
            # OSError: out of descriptors. Told later: the caller does not have this object yet.
            failure = error if isinstance(error, LaunchError) else LaunchError(str(error))
            self._timer = context.loop.call_later(0, partial(self._fail, failure))
            return
        self._launch = launch
        self._fd = launch.fileno()
        self._timer = context.loop.call_later(timeout, self._time_out)
        context.loop.watch(self._fd, IN, self._advance)

    def abandon(self, reason: str) -> None:
        """Kill it; *failed* is called with *reason* when it is gone, or in vain. Idempotent."""
        self._give_up(LaunchError(reason))

    def _advance(self, _events: int) -> None:
        assert self._launch is not None
        # First, for the end of the launch closes its descriptor.
        self._context.loop.forget(self._fd)
        try:
            launched = self._launch.advance()
        except LaunchError as error:
            self._give_up(error)
            return
        if launched is None:
            self._context.loop.watch(self._fd, IN, self._advance)
            return
        self._timer.cancel()
        for pidfd in self._launch.take_former():
            collect(self._context.loop, pidfd)
        for fd in (launched.pidfd, launched.terminal):
            if fd is not None:
                os.set_inheritable(fd, False)
        self._context.link.announce(self._name, launched.pid)
        self._done(launched)

    def _time_out(self) -> None:
        self.abandon(f"the launch did not get to exec within {self._timeout:g} s")

    def _give_up(self, error: LaunchError) -> None:
        if self._error is not None:
            return
        self._error = error
        self._timer.cancel()
        if self._launch is None:
            self._fail(error)
            return
        self._launch.kill()
        # Dying may take as long as the kernel likes: nobody else is to wait for it.
        self._timer = self._context.loop.call_later(_DEATH_S, self._survives)
        self._context.loop.forget(self._fd)
        self._context.loop.watch(self._fd, IN, self._drain)

    def _drain(self, _events: int) -> None:
        assert self._launch is not None
        self._context.loop.forget(self._fd)
        if not self._launch.drain():
            self._context.loop.watch(self._fd, IN, self._drain)
            return
        *former, last = self._launch.leave()
        for pidfd in former:
            collect(self._context.loop, pidfd)
        collect(self._context.loop, last, self._is_gone)

    def _is_gone(self, _code: int | None) -> None:
        assert self._error is not None
        self._timer.cancel()
        self._fail(self._error)

    def _survives(self) -> None:
        assert self._error is not None
        assert self._launch is not None
        text = f"{self._error}; its process {self._launch.pid} survives SIGKILL"
        self._fail(LaunchError(text, exit_code=self._error.exit_code))

    def _fail(self, error: LaunchError) -> None:
        failed, self._failed = self._failed, None
        if failed is not None:
            self._context.link.gone(self._name)
            failed(error)


class Process:
    """A process that runs, whoever its parent is. Owns its pidfd."""

    def __init__(
        self,
        context: Context,
        name: str,
        pid: int,
        pidfd: int,
        ended: Callable[[int | None], None],
        *,
        remember: bool = False,
    ) -> None:
        """Call ``ended(code)`` once it has ended; None if nobody can tell how.

        When that returns, the process is collected and its name free; until then a supervisor
        killed in between leaves it to the next one to act on the same end. With *remember*, the
        keeper keeps the code after that, until it is told that the name is gone.
        """
        self.pid = pid
        self._context = context
        self._name = name
        self._pidfd = pidfd
        self._ended: Callable[[int | None], None] | None = ended
        self._remember = remember
        self._timer: Timer | None = None
        context.link.hold(f"{name}/pidfd", pidfd)
        context.loop.watch(pidfd, IN, self._on_pidfd)

    @property
    def pidfd(self) -> int:
        """For pidfd_send_signal(2) and setns(2); stays ours."""
        return self._pidfd

    @property
    def has_ended(self) -> bool:
        """Whether it has, though *ended* may not have been called yet."""
        poller = select.poll()
        poller.register(self._pidfd, select.POLLIN)
        return bool(poller.poll(0))

    def signal(self, number: int) -> None:
        """Send a signal; does nothing if it has ended already."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    def signal_group(self, number: int) -> None:
        """Send a signal to all of the process group it leads; nothing if it has ended."""
        with suppress(ProcessLookupError):
            try:
                signal.pidfd_send_signal(self._pidfd, number, None, _PROCESS_GROUP)
            except OSError as error:
                if error.errno != errno.EINVAL:  # Linux before 6.9
                    raise
                os.killpg(self.pid, number)

    def keeper_says(self, code: int) -> None:
        """Take the keeper's word for how it ended."""
        self._finish(code)

    def _on_pidfd(self, events: int) -> None:
        try:
            code = exits.peek(self._pidfd)
        except ChildProcessError:
            # Its parent is the keeper, or since a keeper was killed some init.
            try:
                code = exits.observe(self.pid, self._pidfd)
            except PermissionError:
                self._finish(None)  # nor will anybody else tell
                return
            if code is None:
                code = exits.recall(self._pidfd)
            if code is None:
                # Reaped, and the kernel does not tell: the keeper will, if it was his.
                self._context.loop.forget(self._pidfd)
                self._give_up_later()
        else:
            if code is None:  # who traces it has not let it go: the event would come for ever
                self._context.loop.forget(self._pidfd)
                self._context.loop.call_later(LOOK_AGAIN_S, self._watch_again)
        if code is not None:
            self._finish(code)

    def _watch_again(self) -> None:
        if self._ended is not None:
            self._context.loop.watch(self._pidfd, IN, self._on_pidfd)

    def _give_up_later(self) -> None:
        if self._timer is None:
            is_keepers = self._name in self._context.link.children
            patience = _KEEPER_TELLS_S if is_keepers else _UNKNOWN_AFTER_S
            self._timer = self._context.loop.call_later(patience, lambda: self._finish(None))

    def _finish(self, code: int | None) -> None:
        ended, self._ended = self._ended, None
        if ended is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._context.loop.forget(self._pidfd)
        ended(code)
        with suppress(ChildProcessError):
            exits.reap(self._pidfd)
        self._context.link.drop(f"{self._name}/pidfd")
        if self._remember and code is not None:
            self._context.link.ended(self._name, code)
        else:
            self._context.link.gone(self._name)
