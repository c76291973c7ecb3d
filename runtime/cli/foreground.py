"""Staying with a process until it ends: its signals, its terminal, its exit code."""

import fcntl
import os
import struct
import termios
import time
from contextlib import closing, suppress
from types import FrameType

from runtime.cli.context import Context
from runtime.errors import LaunchError
from runtime.kernel.bare import signal, socket
from runtime.kernel.readable import wait_readable, wait_ready
from runtime.kernel.terminal import resize_terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.cli.notify import Notification
    from runtime.cli.relay import Relay

_BYTES = 65536
_OURS = (signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGTTIN)
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Foreground:
    """From entering on, signals are taken for the process that is to be followed.

    Until that is followed, those that end a command end what the *context* waits for. They do so
    there alone: nothing is left half done between two waits, and it is known what came first.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._reader, self._writer = socket.socketpair()
        self._came: list[int] = []
        """Signals nothing has been done about yet, in order."""
        self._ending = {n for n in _ENDING if signal.getsignal(n) != signal.SIG_IGN}  # nohup(1)
        self._saved: list[object] | None = None

    def __enter__(self) -> "Foreground":
        for end in (self._reader, self._writer):
            end.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in signal.valid_signals() - set(_OURS) - {signal.SIGTTOU, signal.SIGTSTP}:
            signal.signal(number, _nothing)
        self._context.wait = self._wait
        return self

    def __exit__(self, *_error: object) -> None:
        if self._saved is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, self._saved)  # type: ignore[arg-type] # as got

    def follow(self, pidfd: int, master: int | None, notify: "Notification | None" = None) -> int:
        """Return the exit code of our child *pidfd*, 128 + n if signal n ended it.

        Signals we get it gets, those that came since it was started, too; with the *master* of its
        terminal, ours is connected to that. What it sends to *notify* is taken until it was ready.
        """
        self._pass_on(pidfd, master)
        if master is None:
            self._watch(pidfd, None, None, notify)
        else:
            from runtime.cli.relay import Relay

            self._resize(master)
            self._make_raw()
            with closing(Relay(master)) as relay:
                self._watch(pidfd, master, relay, notify)
                self._drain(relay)
        ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        assert ended is not None
        return ended.si_status if ended.si_code == os.CLD_EXITED else 128 + ended.si_status

    def _watch(
        self,
        pidfd: int,
        master: int | None,
        relay: "Relay | None",
        notify: "Notification | None",
    ) -> None:
        """Do what is due until the process has ended."""
        watched = {self._reader.fileno(), pidfd}
        if notify is not None:
            watched.add(notify.fileno())
        readable: set[int] = set()
        while pidfd not in readable:
            reading = watched if relay is None else watched | relay.reading
            writing = set() if relay is None else relay.writing
            readable, writable = wait_ready(reading, writing, None)
            if self._reader.fileno() in readable:
                self._take()
                self._pass_on(pidfd, master)
            if notify is not None and notify.fileno() in watched and notify.take_all():
                watched.discard(notify.fileno())
            if relay is not None and pidfd not in readable:
                relay.advance(readable, writable)

    def _drain(self, relay: "Relay") -> None:
        """Give out what the process has written, as long as who takes that is to be waited for."""
        relay.end_input()
        while True:
            reading = {self._reader.fileno(), *relay.reading}
            timeout_s = None if relay.writing else 0
            readable, writable = wait_ready(reading, relay.writing, timeout_s)
            if not readable and not writable:
                return
            if self._reader.fileno() in readable:
                self._take()
                if self._taken_to_end():
                    return
            relay.advance(readable, writable)

    def _wait(self, fd: int, timeout_s: float | None) -> bool:
        """Wait as `wait_readable`, until a signal comes that ends commands.

        If both have happened, the signal is the next wait's, or goes to the process: it may run.

        Raises:
            LaunchError: there was such a signal.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not wait_readable(fd, 0):
            if number := self._taken_to_end():
                raise LaunchError(f"interrupted by signal {number}", exit_code=128 + number)
            left = None if deadline is None else max(0, deadline - time.monotonic())
            if not wait_ready({fd, self._reader.fileno()}, set(), left)[0]:
                return False
            self._take()
        return True

    def _take(self) -> None:
        """Take the signals that came."""
        with suppress(BlockingIOError):
            self._came += self._reader.recv(_BYTES)

    def _taken_to_end(self) -> int:
        """Return a signal taken that ends commands, and forget about all; 0 if there is none."""
        number = next((n for n in self._came if n in self._ending), 0)
        if number:
            self._came.clear()
        return number

    def _pass_on(self, pidfd: int, master: int | None) -> None:
        for number in self._came:
            if number == signal.SIGWINCH and master is not None:
                self._resize(master)
                continue
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, number)
        self._came.clear()

    def _resize(self, master: int) -> None:
        with suppress(OSError):
            size = fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))
            rows, columns = struct.unpack("=4H", size)[:2]
            resize_terminal(master, rows=rows, columns=columns)

    def _make_raw(self) -> None:
        if not os.isatty(0):
            return
        import tty

        self._saved = termios.tcgetattr(0)
        tty.setraw(0)


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """Be the handler of a signal that is read from the wake-up socket."""
