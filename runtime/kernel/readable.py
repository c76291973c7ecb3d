"""Waiting for descriptors of any number."""

import errno
import os
import select
import time
from collections.abc import Callable, Set

_READABLE = select.POLLIN | select.POLLHUP | select.POLLERR
_WRITABLE = select.POLLOUT | select.POLLERR

Wait = Callable[[int, float | None], bool]
"""Waits as `wait_readable` does, but may raise instead: then what was waited for is given up."""


def wait_readable(fd: int, timeout_s: float | None) -> bool:
    """Return when *fd* is readable, or False when that took longer than *timeout_s*."""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(None if timeout_s is None else timeout_s * 1000))


def wait_ready(
    reading: Set[int], writing: Set[int], timeout_s: float | None
) -> tuple[set[int], set[int]]:
    """Return which of them are readable, and which are writable; none if the time is over.

    As select(2) has it, which takes no descriptor above 1023.

    Raises:
        OSError: EBADF: one is not open.
    """
    poller = select.poll()
    for fd in reading | writing:
        poller.register(
            fd, (select.POLLIN if fd in reading else 0) | (select.POLLOUT if fd in writing else 0)
        )
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        left_s = None if deadline is None else max(0, deadline - time.monotonic())
        told = poller.poll(None if left_s is None else left_s * 1000)
        if any(events & select.POLLNVAL for _, events in told):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        readable = {fd for fd, events in told if fd in reading and events & _READABLE}
        writable = {fd for fd, events in told if fd in writing and events & _WRITABLE}
        if readable or writable or not told:
            return readable, writable
        # Hung up, and full: poll(2) says the former without being asked, again and again.
        for fd, _ in told:
            poller.unregister(fd)
