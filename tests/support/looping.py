"""Turning a supervisor's event loop in a test."""

import os
import time
from collections.abc import Callable

from runtime.supervisor.loop import Loop


def run_until(loop: Loop, condition: Callable[[], object], *, timeout_s: float = 10.0) -> None:
    """Run *loop* until *condition* holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        loop.call_later(0.01, loop.stop)
        loop._stopped = False
        loop.run()


def is_collected(pid: int) -> bool:
    """Tell whether nothing is left of a child, no zombie either."""
    return not os.path.exists(f"/proc/{pid}")
