"""Telling when one of several containers behind the same ports is down, and when it is up again.

What then has to happen to the firewall is an errand.
"""

from collections.abc import Callable

from runtime.supervisor.context import Context
from runtime.supervisor.errand import Errand
from runtime.supervisor.status import Status

_GATHER_S = 0.02
"""Those that end together are seen to together."""
_LEFT_TO_CLIENT_S = 1.0
"""Who has a container stopped moves its traffic first, and mostly removes it next. Who waits for
one to be well moves it too, and may then stop the next one: nobody shall get in between."""


class Traffic:
    """Has published traffic follow those of the containers that share it that are not *spared*."""

    def __init__(self, context: Context, done: Callable[[], None]) -> None:
        """Call ``done()`` whenever there may be nothing left to do."""
        self._spared: set[str] = set()
        self._errand = Errand(context, "runtime.container.traffic", done)

    @property
    def active(self) -> bool:
        """Tell whether the firewall is being changed, or soon will be."""
        return self._errand.active

    @property
    def pressing(self) -> bool:
        """Tell the same, but not of what has failed before."""
        return self._errand.pressing

    def adopt(self, known: Status, *, balanced: bool) -> None:
        """Take over from a supervisor that perhaps could not say what it knew."""
        if known.spared:
            self._spared.add(known.id)
        if balanced:
            self._errand.want(known.id, delay_s=_GATHER_S)

    def consider(self, told: Status) -> None:
        """See whether something follows from a container's new status."""
        if told.spared == (told.id in self._spared):
            return
        if told.spared:
            self._spared.add(told.id)
        else:
            self._spared.discard(told.id)
        is_down = told.spared and not (told.ending and not told.ended)
        self._errand.want(told.id, delay_s=_GATHER_S if is_down else _LEFT_TO_CLIENT_S)

    def forget(self, container_id: str) -> None:
        """Know nothing of a container any more."""
        self._spared.discard(container_id)
        self._errand.forget(container_id)
