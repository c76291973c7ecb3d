"""Ending an apply in order when the user, or the system, asks for it."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """A request to stop, made from a signal handler and heard by the apply at its next step."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        """The signal that asked; exit codes are 128 + its number."""
        self._wake: Callable[[], None] | None = None

    def connect(self, wake: Callable[[], None]) -> None:
        """Call *wake* (reentrant: it runs in a signal handler) when a stop is asked for."""
        self._wake = wake
        if self.signal is not None:
            wake()

    def request(self, number: signal.Signals) -> None:
        """Ask to stop; asked a second time, leave at once and let the next run clean up.

        When a terminal is lost, the shell and the kernel hang up one after the other: nobody
        insists.

        Raises:
            KeyboardInterrupt: it was asked before.
        """
        if self.signal is not None:
            if number is signal.SIGHUP:
                return
            raise KeyboardInterrupt
        self.signal = number
        if self._wake is not None:
            self._wake()


@contextmanager
def on_signals() -> Iterator[Interrupt]:
    """Turn SIGINT, SIGTERM and SIGHUP into an ``Interrupt`` inside a ``with``; main thread.

    A SIGHUP that is ignored, as nohup(1) has it, stays so.
    """
    interrupt = Interrupt()

    def handle(number: int, frame: FrameType | None) -> None:
        interrupt.request(signal.Signals(number))

    heard = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        heard.append(signal.SIGHUP)
    former = {number: signal.signal(number, handle) for number in heard}
    try:
        yield interrupt
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
