"""The DNS process' event loop: descriptors and timers, nothing else."""

import heapq
import select
import time
from collections.abc import Callable
from itertools import count
from typing import Protocol

IN = select.EPOLLIN
OUT = select.EPOLLOUT


class HasFileno(Protocol):
    """A socket, say."""

    def fileno(self) -> int:
        """Return the descriptor."""
        ...


class Timer:
    """A call to come."""

    __slots__ = ("action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Do not call; after the call this does nothing."""
        self.action = None


class Loop:
    """Single-threaded; what it calls must not block."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = count()

    def close(self) -> None:
        """Give the kernel's part back."""
        self._epoll.close()

    def watch(self, source: HasFileno, events: int, action: Callable[[int], None]) -> None:
        """Call *action* with what happened on *source*, from now on; replaces the former."""
        fd = source.fileno()
        if fd in self._watched:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._watched[fd] = action

    def forget(self, source: HasFileno) -> None:
        """Watch *source* no more; before it is closed. Not watched is fine."""
        if self._watched.pop(source.fileno(), None) is not None:
            self._epoll.unregister(source.fileno())

    def call_later(self, seconds: float, action: Callable[[], None]) -> Timer:
        """Call *action* once, in *seconds*."""
        timer = Timer(action)
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), timer))
        return timer

    def turn(self) -> None:
        """Wait for something to happen and see to it."""
        for fd, events in self._epoll.poll(self._patience()):
            action = self._watched.get(fd)
            if action is not None:
                action(events)
        now = time.monotonic()
        while self._timers and (self._timers[0][0] <= now or self._timers[0][2].action is None):
            timer = heapq.heappop(self._timers)[2]
            if timer.action is not None:
                timer.action()

    def _patience(self) -> float | None:
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
