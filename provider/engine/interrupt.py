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

        Raises:
            KeyboardInterrupt: it was asked before.
        """
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
        if self._wake is not None:
            self._wake()


@contextmanager
def on_signals() -> Iterator[Interrupt]:
    """Turn SIGINT and SIGTERM into an ``Interrupt`` for the length of a ``with``; main thread."""
    interrupt = Interrupt()

    def handle(number: int, frame: FrameType | None) -> None:
        interrupt.request(signal.Signals(number))

    former = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupt
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
