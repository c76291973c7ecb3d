"""Waiting for what no event tells."""

import os
import time
from collections.abc import Callable

SLOWNESS = float(os.environ.get("BAYPLAN_SLOWNESS", "1"))
"""How many times longer everything may take: the machine of tests/vm may be emulated."""


def wait_until(condition: Callable[[], object], *, within_s: float = 20) -> None:
    """Return as soon as *condition* holds."""
    deadline = time.monotonic() + within_s * SLOWNESS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
