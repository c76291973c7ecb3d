"""Waiting for one descriptor, by a function that whoever has to watch more can replace."""

import select
from collections.abc import Callable

Wait = Callable[[int, float | None], bool]
"""Waits as `wait_readable` does, but may raise instead: then what was waited for is given up."""


def wait_readable(fd: int, timeout_s: float | None) -> bool:
    """Return when *fd* is readable, or False when that took longer than *timeout_s*."""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(None if timeout_s is None else timeout_s * 1000))
