"""The user's standard streams, joined with those of a process in a container.

Never by handing over the user's own descriptors: a program in the container could read the keys
typed at a terminal it was given, and open the file behind a descriptor again, for writing. So
the bytes pass through here, over pipes or a terminal of the container's own. Whatever ends the
conversation, the user's terminal is as it was before.
"""

import os
import signal
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from provider.cli.detach import DetachKeys
from provider.cli.leaving import Interrupted, handling
from runtime.kernel.readable import wait_ready

FORWARDED = (
    *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM),
    *(signal.SIGUSR1, signal.SIGUSR2),
)
_PATIENCE = 3
"""So many SIGINT or SIGTERM, and we leave, whatever the process makes of them."""
_BLOCK = 256 << 10
_STANDARD = {"stdin": 0, "stdout": 1, "stderr": 2}


class Hangup(Exception):
    """The user's terminal is gone."""

    number = signal.SIGHUP


class ReaderGone(Exception):
    """Nobody reads our output any more (`| head`)."""

    number = signal.SIGPIPE


class Pipes:
    """The ways to a process: *theirs* to be handed over, *ours* to talk through, by stream name."""

    def __init__(self, *names: str, uid: int) -> None:
        """Make pipes that user *uid* of the container may open again, by /dev/stdin and so on."""
        self.ours: dict[str, int] = {}
        self.theirs: dict[str, int] = {}
        for name in names:
            read, write = os.pipe()
            os.fchown(read, uid, -1)
            ours, theirs = (write, read) if name == "stdin" else (read, write)
            self.ours[name], self.theirs[name] = ours, theirs
        if "stdin" in names:
            os.set_blocking(self.ours["stdin"], False)

    def join(self, terminal: int, *names: str) -> None:
        """Use the master of a terminal for streams; it stays the caller's."""
        os.set_blocking(terminal, False)
        for name in names:
            self.ours[name] = os.dup(terminal)

    def end_input(self) -> None:
        """Let the process see the end of its input."""
        os.close(self.ours.pop("stdin"))

    def handed_over(self) -> None:
        """Close what the process has by now."""
        while self.theirs:
            os.close(self.theirs.popitem()[1])

    def close(self) -> None:
        """Close all that is still ours. Idempotent."""
        self.handed_over()
        while self.ours:
            os.close(self.ours.popitem()[1])

    @property
    def outputs(self) -> dict[int, int]:
        """What is to be copied, and where to."""
        return {fd: _STANDARD[name] for name, fd in self.ours.items() if name != "stdin"}


class Ending:
    """Waits in a thread for a process to end, so that this can be waited for with other things."""

    def __init__(self, wait: Callable[[], int | None]) -> None:
        self._wait = wait
        self._code: int | None = None
        self._error: Exception | None = None
        self._read, self._write = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        """Return what becomes readable at the end."""
        return self._read

    def code(self) -> int | None:
        """Return the exit code, once there is one; raises what waiting has raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._code

    def _run(self) -> None:
        try:
            self._code = self._wait()
        except Exception as error:
            self._error = error
        finally:
            os.close(self._write)


def terminal_size() -> os.terminal_size | None:
    """Return the size of the user's terminal, if there is one."""
    for fd in (1, 0, 2):
        with suppress(OSError):
            return os.get_terminal_size(fd)
    return None


@contextmanager
def forwarding(send: Callable[[int], None], *, terminal: int | None = None) -> Iterator[int]:
    """Hand signals on with *send*, and changes of the window's size to *terminal*; main thread.

    Those that were ignored (``nohup``) are so still. Yields a descriptor to be waited for with
    other things: a signal that comes just before a select(2) does not end it.

    Raises:
        Interrupted: SIGINT or SIGTERM came several times.
    """
    asked = 0

    def hand_on(number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        asked += number in (signal.SIGINT, signal.SIGTERM)
        if asked >= _PATIENCE:
            raise Interrupted(number)
        send(number)

    def resize(*_: object) -> None:
        size = terminal_size()
        if terminal is not None and size is not None:
            with suppress(OSError):
                termios.tcsetwinsize(terminal, (size.lines, size.columns))

    heard = [number for number in FORWARDED if signal.getsignal(number) is not signal.SIG_IGN]
    with _woken() as woken, handling(dict.fromkeys(heard, hand_on) | {signal.SIGWINCH: resize}):
        # It may have changed while the process was being started.
        resize()
        yield woken


@contextmanager
def _woken() -> Iterator[int]:
    """Yield a descriptor that has something to read after each signal."""
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    former = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    try:
        yield read
    finally:
        signal.set_wakeup_fd(former)
        os.close(read)
        os.close(write)


@contextmanager
def raw_terminal(wanted: bool) -> Iterator[None]:
    """If *wanted*, have every key of the user's terminal read as it is typed, until the end."""
    if not wanted:
        yield
        return
    former = termios.tcgetattr(0)
    try:
        tty.setraw(0, termios.TCSADRAIN)  # what was typed already is not lost
        yield
    finally:
        with suppress(termios.error):  # it is gone
            termios.tcsetattr(0, termios.TCSADRAIN, former)


def converse(
    pipes: Pipes, ending: Ending, woken: int, *, whole: bool, keys: DetachKeys | None = None
) -> None:
    """Copy between our standard streams and *pipes*, those there are, until it is over.

    Signals make *woken* readable (see `forwarding`), and are handled in between.

    That is when the process has ended, and with *whole* all outputs too; without, what it has
    written is here by then, and a process it has left behind may keep them open.

    Raises:
        ReaderGone: nobody reads our own output any more.
        Hangup: its input is a terminal, and the user's is gone.
        Detached: *keys* were typed.
    """
    sources, typed, over = pipes.outputs, b"", False
    feed = pipes.ours.get("stdin")
    is_terminal = feed is not None and os.isatty(feed)
    while sources or not over:
        reading = {woken, *sources, *(() if over else (ending.fileno(),))}
        if feed is not None and not typed and not over:
            reading.add(0)
        writing = set() if feed is None or not typed else {feed}
        ready, _ = wait_ready(reading, writing, 0 if over and not whole else None)
        if woken in ready:
            _read(woken)
        said = [fd for fd in sources if fd in ready]
        for fd in said:
            data = _read(fd)
            if data:
                _write(sources[fd], data)
            else:
                del sources[fd]
        if over and not whole and not said:
            return
        over = over or ending.fileno() in ready
        if 0 in ready:
            typed = _read(0)
            if not typed and is_terminal:
                raise Hangup
            if typed and keys is not None:
                typed = keys.passed(typed)
                if not typed:
                    continue
        if feed is not None and (typed or 0 in ready):
            rest = _feed(feed, typed) if typed else None
            if rest is None:
                pipes.end_input()
                feed = None
            typed = rest or b""


def _feed(feed: int, typed: bytes) -> bytes | None:
    """Return what could not be written yet, or None if nobody will read it."""
    try:
        return typed[os.write(feed, typed) :]
    except BlockingIOError:
        return typed
    except OSError:  # EPIPE, EIO
        return None


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, _BLOCK)
    except OSError:  # EIO: nobody has that terminal open any more
        return b""


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BrokenPipeError as error:
            raise ReaderGone from error
        except BlockingIOError:  # somebody has made our standard output non-blocking
            wait_ready(set(), {fd}, None)
