"""What the parts of a supervisor share."""

from collections.abc import Callable
from typing import Any

from runtime.supervisor.link import Link
from runtime.supervisor.logfile import Peek
from runtime.supervisor.loop import Loop
from runtime.supervisor.names import Home
from runtime.supervisor.oom import OomWatcher
from runtime.supervisor.status import Status

Emit = Callable[[str, Status, dict[str, Any]], None]


class Context:
    """The loop, the keeper, and where news go."""

    __slots__ = ("emit", "home", "link", "loop", "oom", "peek")

    def __init__(self, home: Home, loop: Loop, link: Link, emit: Emit) -> None:
        self.home = home
        self.loop = loop
        self.link = link
        self.peek = Peek()
        self.oom = OomWatcher(loop)
        self.emit = emit
        """``emit(type, status, details)``: tell whoever listens to events."""
