"""The end of a container to be removed when it has ended, and that nobody waits for any more.

What there is of one besides processes (network, ports, layers) is not this process's to know, and
takes longer than it may take: it is an errand.
"""

import os
from collections.abc import Callable

from runtime.supervisor.context import Context
from runtime.supervisor.errand import Errand

_LEFT_TO_CLIENT_S = 1.0
"""A client in the foreground removes it itself, and knows what came of that."""


class Remover:
    """Has containers removed that are still there a moment after their end."""

    def __init__(self, context: Context, done: Callable[[], None]) -> None:
        """Call ``done()`` whenever there may be nothing left to do."""
        self._loop = context.loop
        self._home = context.home
        self._done = done
        self._due: set[str] = set()
        self._errand = Errand(context, "runtime.container.remover", self._start)

    @property
    def active(self) -> bool:
        """Tell whether something is being removed, or soon will be."""
        return bool(self._due) or self._errand.active

    def remove_soon(self, container_id: str) -> None:
        """Remove a container that has ended, unless its client does."""
        self._due.add(container_id)
        self._loop.call_later(_LEFT_TO_CLIENT_S, self._start)

    def _start(self) -> None:
        if self._errand.active:
            return  # the next one takes it
        due = [each for each in sorted(self._due) if self._is_there(each)]
        self._due.clear()
        if due:
            self._errand.start(*due)
        else:
            self._done()

    def _is_there(self, container_id: str) -> bool:
        return os.path.exists(os.path.join(self._home.state, "containers", container_id))
