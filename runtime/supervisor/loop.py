"""The event loop: descriptors, timers, and nothing that waits anywhere else.

One thread. Callbacks must not block. An exception in a callback ends the supervisor: the keeper
starts another one, which adopts everything (crash-only, so that there is one way to recover).
"""

import heapq
import select
import time
from collections.abc import Callable

IN = select.EPOLLIN
OUT = select.EPOLLOUT
HUP = select.EPOLLHUP

Handler = Callable[[int], None]


class Timer:
    """One call at a time to come; cancelling twice, or after it ran, does nothing."""

    __slots__ = ("action", "when")

    def __init__(self, when: float, action: Callable[[], None]) -> None:
        self.when = when
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Never run it."""
        self.action = None

    def __lt__(self, other: "Timer") -> bool:
        return self.when < other.when


class Loop:
    """epoll and a heap of timers. Times are of the monotonic clock.

    What was there before a timer was due is dispatched before it: many ends at once may take
    longer than the patience for one of them.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._timers: list[Timer] = []
        self._stopped = False

    def watch(self, fd: int, events: int, handler: Handler) -> None:
        """Call ``handler(events)`` whenever *fd* is ready (level-triggered)."""
        self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def change(self, fd: int, events: int) -> None:
        """Watch *fd* for other events; 0 leaves errors and hang-ups."""
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Watch *fd* no more; does nothing if it is not watched. Call before closing it."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def call_later(self, delay: float, action: Callable[[], None]) -> Timer:
        """Run *action* in *delay* seconds."""
        timer = Timer(time.monotonic() + max(0.0, delay), action)
        heapq.heappush(self._timers, timer)
        return timer

    def stop(self) -> None:
        """Return from run() after the callbacks of this round."""
        self._stopped = True

    def run(self) -> None:
        """Dispatch until stop()."""
        while not self._stopped:
            asked = time.monotonic()
            for fd, events in self._epoll.poll(self._patience()):
                # An earlier callback of this round may have taken it away.
                handler = self._handlers.get(fd)
                if handler is not None:
                    handler(events)
            self._run_timers(asked)

    def close(self) -> None:
        """Close the epoll descriptor."""
        self._epoll.close()

    def _patience(self) -> float:
        while self._timers and self._timers[0].action is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return -1
        return max(0.0, self._timers[0].when - time.monotonic())

    def _run_timers(self, asked: float) -> None:
        while self._timers and self._timers[0].when <= asked:
            action = heapq.heappop(self._timers).action
            if action is not None:
                action()
