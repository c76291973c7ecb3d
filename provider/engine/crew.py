"""Threads that do one thing each and report back to the thread that asked.

Not concurrent.futures: that imports logging, and its waits would fill the pool.
"""

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from provider.errors import ApplyError
from runtime.record import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """The end of a piece of work, or news from the middle of it."""

    about: Any
    """What the work was submitted with."""
    result: Any = None
    error: BaseException | None = None
    duration_s: float = 0.0
    news: str | None = None


class Crew:
    """A few workers, and a thread of its own for each wait. Made and used by one thread.

    All threads are daemons: one that waits for something long past does not keep the process.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._threads = 0
        self._busy = 0
        self._unheard = 0
        self._tasks: queue.SimpleQueue[tuple[Any, Callable[[], Any]] | None] = queue.SimpleQueue()
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()

    @property
    def is_free(self) -> bool:
        """True if a worker would begin at once."""
        return self._busy < self._workers

    @property
    def is_at_work(self) -> bool:
        """True while there is a task whose end was not heard yet."""
        return self._unheard > 0

    def work(self, about: Any, task: Callable[[], Any]) -> None:
        """Have a worker do *task*; ``done`` must be called when its message was heard."""
        self._busy += 1
        self._unheard += 1
        if self._threads < min(self._workers, self._busy):
            self._threads += 1
            threading.Thread(target=self._serve, name="bayplan-worker", daemon=True).start()
        self._tasks.put((about, task))

    def wait(self, about: Any, task: Callable[[], Any]) -> None:
        """Do *task*, which may take long, in a thread of its own."""
        self._unheard += 1
        thread = threading.Thread(
            target=self._do, args=(about, task), name="bayplan-wait", daemon=True
        )
        thread.start()

    def tell(self, about: Any, news: str) -> None:
        """Send news from inside a task; from any thread, or from a signal handler."""
        self._messages.put(Message(about, news=news))

    def hear(self, timeout_s: float | None) -> Message | None:
        """Return the next message, or None after *timeout_s* seconds."""
        try:
            message = self._messages.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if message.news is None:
            self._unheard -= 1
        return message

    def done(self) -> None:
        """Take note that a worker has ended a task."""
        self._busy -= 1

    def dismiss(self) -> None:
        """Let the workers go home once they are done."""
        for _ in range(self._threads):
            self._tasks.put(None)

    def _serve(self) -> None:
        while (task := self._tasks.get()) is not None:
            self._do(*task)

    def _do(self, about: Any, task: Callable[[], Any]) -> None:
        begin = time.monotonic()
        result: Any = None
        error: BaseException | None = None
        try:
            result = task()
        except OSError as caught:
            # The host refused something (no space, no permission); nobody's bug.
            error = ApplyError(str(caught))
            error.__cause__ = caught
        except BaseException as caught:  # raised again, or reported, by the thread that asked
            error = caught
        self._messages.put(Message(about, result, error, time.monotonic() - begin))


def all_at_once(*works: Callable[[], object]) -> None:
    """Do each in a thread of its own; a bug in one is raised when the others are done."""
    bugs: list[BaseException] = []

    def do(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:  # raised by the thread that asked
            bugs.append(error)

    threads = [threading.Thread(target=do, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if bugs:
        raise bugs[0]
