"""A listening socket in a folder, and the lock that says who may make it.

Whoever takes the lock and is the one process behind the socket hands both to that process: they
are open file descriptions, so both last as long as it does, and not a moment longer.
"""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator

_BACKLOG = 1024


@contextlib.contextmanager
def short(path: str) -> Iterator[str]:
    """Yield a name of *path* that fits in a socket address (108 bytes, unix(7))."""
    if len(os.fsencode(path)) < 108:
        yield path
        return
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{os.path.basename(path)}"
    finally:
        os.close(folder)


def listen(path: str, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """Return a socket that listens at *path*, replacing what is there; mode 0600."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, kind)
    with short(path) as address:
        listener.bind(address)
    # Nobody can connect before listen(2), and the folder is 0700 anyway.
    os.chmod(path, 0o600)
    listener.listen(_BACKLOG)
    return listener


def try_lock(path: str) -> int:
    """Return the locked descriptor, or -1 if the lock is taken."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The one who ends removes the file; what was opened here may be the removed one.
        if os.path.samestat(os.fstat(lock), os.stat(path)):
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(lock)
    return -1
