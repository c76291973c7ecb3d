"""Who waits for a container to end for good; each is told once."""

from collections.abc import Callable

from runtime.errors import StateError
from runtime.supervisor.status import Status

Ended = Callable[[Status], None]
Survives = Callable[[StateError], None]


class Waiters:
    """Those who wait for its end, and those who stop it, who do not wait for ever."""

    def __init__(self) -> None:
        self._ended: list[Ended] = []
        self._stopping: list[tuple[Ended, Survives]] = []

    def wait(self, ended: Ended) -> Callable[[], None]:
        """Have *ended* called at the end; return what takes that back."""
        self._ended.append(ended)

        def cancel() -> None:
            if ended in self._ended:
                self._ended.remove(ended)

        return cancel

    def stop(self, ended: Ended, survives: Survives) -> None:
        """Have *ended* called at the end, or else *survives*."""
        self._stopping.append((ended, survives))

    def tell_ended(self, status: Status) -> None:
        """Tell all that it has ended."""
        waiting = [*self._ended, *(ended for ended, _survives in self._stopping)]
        self._ended, self._stopping = [], []
        for ended in waiting:
            ended(status)

    def tell_survives(self, error: StateError) -> None:
        """Tell those who stop it that it does not end."""
        waiting, self._stopping = self._stopping, []
        for _ended, survives in waiting:
            survives(error)
