"""Freezing, whichever version does it."""

from __future__ import annotations

from runtime.cgroup.v2 import core
from runtime.cgroup.waiting import Deadline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class _Version(Protocol):
        def freeze(self, folder: str) -> None: ...
        def thaw(self, folder: str) -> None: ...
        def is_frozen(self, folder: str) -> bool: ...


class Freezer:
    """The freezer of one group; *version* is the module v1.core or v2.core."""

    def __init__(self, folder: str, version: _Version) -> None:
        self._folder = folder
        self._version = version

    def try_freeze(self, timeout_s: float) -> bool:
        """Freeze; tell whether all members stand still in time. Does not thaw if they do not."""
        deadline = Deadline(timeout_s)
        if self._version is core:
            return self._await_event(deadline)
        while True:
            # v1 gives up on a member that was not ready and has to be asked again.
            self._version.freeze(self._folder)
            if self._version.is_frozen(self._folder):
                return True
            if deadline.is_over:
                return False
            deadline.pause()

    def _await_event(self, deadline: Deadline) -> bool:
        with core.Events(self._folder) as events:
            self._version.freeze(self._folder)
            while not events.read().get("frozen"):
                if deadline.is_over:
                    return False
                events.wait(deadline.remaining_s)
        return True

    def thaw(self) -> None:
        """Let all members go on."""
        self._version.thaw(self._folder)

    def is_frozen(self) -> bool:
        """Tell whether all members stand still."""
        return self._version.is_frozen(self._folder)
