"""A process that SIGKILL does not end, as one that is stuck in the kernel or frozen."""

import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

_AT_MOST_S = 3.0
"""Who waits for it all the same shall fail, and not hang."""


@contextmanager
def stuck(pid: int) -> Iterator[Callable[[], bool]]:
    """Have *pid* do nothing, and nobody able to end it; yield what tells whether it is there."""
    kill, send = os.kill, signal.pidfd_send_signal
    kill(pid, signal.SIGSTOP)
    pidfd = os.pidfd_open(pid)
    guard = threading.Timer(_AT_MOST_S, send, (pidfd, signal.SIGKILL))
    guard.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "kill", lambda *_: None)
            patch.setattr(signal, "pidfd_send_signal", lambda *_: None)
            yield lambda: not select.select([pidfd], [], [], 0)[0]
    finally:
        guard.cancel()
        guard.join()
        with suppress(ProcessLookupError):
            send(pidfd, signal.SIGKILL)
        os.close(pidfd)
