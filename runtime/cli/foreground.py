"""Staying with a process until it ends: its signals, its terminal, its exit code."""

import fcntl
import os
import select
import struct
import termios
from contextlib import suppress
from types import FrameType

from runtime.kernel.bare import signal, socket
from runtime.kernel.replace import write_all
from runtime.kernel.terminal import resize_terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.cli.notify import Notification

_BYTES = 65536
_OURS = (signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGTTIN)


class Foreground:
    """From entering on, signals are taken for the process that is to be followed."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._saved: list[object] | None = None

    def __enter__(self) -> "Foreground":
        for end in (self._reader, self._writer):
            end.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in signal.valid_signals() - set(_OURS) - {signal.SIGTTOU, signal.SIGTSTP}:
            signal.signal(number, _nothing)
        return self

    def __exit__(self, *_error: object) -> None:
        if self._saved is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, self._saved)  # type: ignore[arg-type] # as got

    def follow(self, pidfd: int, master: int | None, notify: "Notification | None" = None) -> int:
        """Return the exit code of our child *pidfd*, 128 + n if signal n ended it.

        Signals we get it gets; with the *master* of its terminal, ours is connected to that. What
        it sends to *notify* is taken until it was ready.
        """
        watched = {self._reader.fileno(), pidfd}
        if notify is not None:
            watched.add(notify.fileno())
        if master is not None:
            self._resize(master)
            self._make_raw()
            watched |= {master, 0}
        while True:
            ready = set(select.select(watched, [], [])[0])
            if self._reader.fileno() in ready:
                self._pass_on(pidfd, master)
            if notify is not None and notify.fileno() in watched and notify.take_all():
                watched.discard(notify.fileno())
            if master is not None:
                if 0 in ready and not _copy(0, master):
                    watched.discard(0)
                if master in ready and not _copy(master, 1):
                    watched.discard(master)
            if pidfd in ready:
                break
        if master is not None:
            while master in watched and select.select([master], [], [], 0)[0]:
                if not _copy(master, 1):
                    break
        ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        assert ended is not None
        return ended.si_status if ended.si_code == os.CLD_EXITED else 128 + ended.si_status

    def _pass_on(self, pidfd: int, master: int | None) -> None:
        for number in self._reader.recv(_BYTES):
            if number == signal.SIGWINCH and master is not None:
                self._resize(master)
                continue
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, number)

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


def _copy(source: int, target: int) -> bool:
    """Copy what is there; False at the end."""
    try:
        data = os.read(source, _BYTES)
    except OSError:  # EIO: nobody has the terminal open any more
        return False
    write_all(target, data)
    return bool(data)


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """Be the handler of a signal that is read from the wake-up socket."""
