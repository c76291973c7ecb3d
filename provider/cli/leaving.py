"""Ways to leave a command before its end, so that what it began is undone."""

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

_LEAVING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    """The user wants to leave now; *number* is the last signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def interruptible() -> Iterator[None]:
    """Leave at the signals that end a program, by way of all clean-up; main thread.

    Raises:
        Interrupted: one of them came. Those that were ignored (``nohup``) are so still.
    """

    def leave(number: int, _frame: FrameType | None) -> None:
        raise Interrupted(number)

    heard = [n for n in _LEAVING if signal.getsignal(n) is not signal.SIG_IGN]
    with handling(dict.fromkeys(heard, leave)):
        yield


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Do not hear these signals: what is undone here is undone whole. Main thread."""
    with handling(dict.fromkeys(_LEAVING, lambda *_: None)):
        yield


@contextmanager
def handling(handlers: Mapping[signal.Signals, Any]) -> Iterator[None]:
    """Have signals handled in another way for a while; main thread."""
    former = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
