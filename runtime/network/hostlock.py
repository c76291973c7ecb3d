"""The lock under which host-wide things (addresses, ports, nft table) change, briefly."""

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from runtime.errors import ConflictError
from runtime.kernel.flock import flock_within, leave_note, read_note
from runtime.root import Root

# flock(2) belongs to the open file, so threads of one process need a lock among themselves.
_threads: dict[str, threading.RLock] = {}
_threads_guard = threading.Lock()
_depth = threading.local()


@contextmanager
def host_lock(root: Root, reason: str, *, timeout_s: float = 10.0) -> Iterator[None]:
    """Hold the world's host lock (flock on ``state/host.lock``).

    Reentrant within a thread. Other threads and processes wait. Makes the state folder. The kernel
    gives it back when the holder dies.

    Raises:
        ConflictError: not got within *timeout_s*; names the holder and its reason.
    """
    path = str(root.state / "host.lock")
    held: dict[str, int] = _depth.__dict__.setdefault("held", {})
    if held.get(path):
        held[path] += 1
        try:
            yield
        finally:
            held[path] -= 1
        return
    deadline = time.monotonic() + timeout_s
    with _threads_guard:
        mutex = _threads.setdefault(path, threading.RLock())
    if not mutex.acquire(timeout=timeout_s):
        raise ConflictError(f"host lock {path} is held by another thread for {timeout_s:g} s")
    try:
        root.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not flock_within(fd, fcntl.LOCK_EX, deadline - time.monotonic()):
                raise ConflictError(
                    f"host lock {path} is held for {timeout_s:g} s by {read_note(fd)}"
                )
            leave_note(fd, f"process {os.getpid()} ({reason})")
            held[path] = 1
            try:
                yield
            finally:
                del held[path]
        finally:
            os.close(fd)
    finally:
        mutex.release()
