"""Leaving a command before its end: where it can undo what it began."""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_LEAVING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    """The user wants to leave now; *number* is the last signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def deferring() -> Iterator[Callable[[], None]]:
    """Take note of the signals that end a program, and do not end; main thread.

    Yields what raises Interrupted if one of them came, to be called where nothing is half done.
    Those that were ignored (``nohup``) are so still.
    """
    heard: list[int] = []

    def leave_if_asked() -> None:
        if heard:
            raise Interrupted(heard[-1])

    numbers = [n for n in _LEAVING if signal.getsignal(n) is not signal.SIG_IGN]
    with handling(dict.fromkeys(numbers, lambda number, _frame: heard.append(number))):
        yield leave_if_asked


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """Have SIGTERM and SIGHUP raise Interrupted, as SIGINT raises KeyboardInterrupt; main thread.

    So what is undone at an exception is undone. Those that were ignored are so still.
    """

    def leave(number: int, _frame: object) -> None:
        raise Interrupted(number)

    asking = (signal.SIGTERM, signal.SIGHUP)
    numbers = [n for n in asking if signal.getsignal(n) is not signal.SIG_IGN]
    with handling(dict.fromkeys(numbers, leave)):
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
