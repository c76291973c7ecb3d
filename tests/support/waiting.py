"""Waiting for what no event tells."""

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], *, within_s: float = 20) -> None:
    """Return as soon as *condition* holds."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
