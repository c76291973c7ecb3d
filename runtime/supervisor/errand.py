"""A process for what follows from a container's end or health elsewhere.

There it takes longer than the supervisor may, and knowledge of networks, firewalls and images,
which the supervisor does not have. Of the supervisor it has nothing but standard streams: what it
says is in the supervisor's log.
"""

import os
from collections.abc import Callable
from functools import partial

from runtime.supervisor.context import Context
from runtime.supervisor.note import note
from runtime.supervisor.spawn import collect, spawn

_LONGEST_PAUSE_S = 60.0


class Errand:
    """Runs a module of ours for containers, one process at a time, until it succeeds."""

    def __init__(self, context: Context, module: str, done: Callable[[], None]) -> None:
        """Call ``done()`` whenever there may be nothing left to do.

        ``main`` of *module* is told state folder, run folder and cgroup of this world, and the
        ids of the containers. An exit code other than 0 asks for another try.
        """
        self._loop = context.loop
        self._home = context.home
        self._module = module
        self._done = done
        self._due: set[str] = set()
        self._failures = 0
        self._at_work = False

    @property
    def active(self) -> bool:
        """Tell whether one is under way, or will be."""
        return self._at_work or bool(self._due)

    @property
    def pressing(self) -> bool:
        """Tell whether one is under way, or will be unless that has failed before."""
        return self._at_work or bool(self._due and not self._failures)

    def want(self, container_id: str, *, delay_s: float) -> None:
        """Have it run for a container after a while, with all those that are due by then."""
        self._due.add(container_id)
        self._loop.call_later(delay_s, self._start)

    def forget(self, container_id: str) -> None:
        """Take back a wish, if there is time."""
        self._due.discard(container_id)

    def _start(self) -> None:
        if self._at_work:
            return  # it starts the next one when it ends
        due = sorted(filter(self._is_there, self._due))
        self._due.clear()
        if not due:
            self._done()
            return
        try:
            _pid, pidfd = spawn(self._loop, self._module, (*self._home.arguments(), *due))
        except OSError as error:
            self._fail(due, str(error))
            return
        self._at_work = True
        collect(self._loop, pidfd, partial(self._ended, due))

    def _ended(self, due: list[str], code: int | None) -> None:
        self._at_work = False
        if code:
            self._fail(due, f"it ended with {code}")
        else:
            self._failures = 0
            self._start()

    def _fail(self, due: list[str], why: str) -> None:
        """Try again later, for those that are still there."""
        note(f"{self._module}: {why}; trying again")
        self._due.update(due)
        self._loop.call_later(min(2.0**self._failures, _LONGEST_PAUSE_S), self._start)
        self._failures += 1

    def _is_there(self, container_id: str) -> bool:
        return os.path.exists(os.path.join(self._home.state, "containers", container_id))
