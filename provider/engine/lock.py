"""One apply at a time per project: flock(2) on a file that says who holds it, and why.

The kernel lets go of the lock when its holder dies, however it dies. Readers wait for nobody: to
see whether somebody is at work, they share the lock for an instant, if there is one.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from provider.engine.storage import FILE_MODE, make_folder
from provider.errors import LockBusyError
from provider.model.tree import Tree

_POLL_S = 0.05
_READERS_S = 0.2
"""Longer than readers ever have it; who does not want to wait waits for them."""


@contextmanager
def project_lock(
    state: Path, project: str, *, owner: str, reason: str, timeout_s: float = 10.0
) -> Iterator[None]:
    """Hold the lock of *project* for the length of a ``with``.

    *owner* (``root@host``) and *reason* (``apply of shop.yaml``) are for those who have to wait.

    Raises:
        LockBusyError: somebody else held it for *timeout_s* seconds; names them.
    """
    folder = state / "projects" / project
    make_folder(folder)
    path = folder / "lock"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        _acquire(fd, project, timeout_s)
        os.ftruncate(fd, 0)
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        holder = {"owner": owner, "pid": os.getpid(), "reason": reason, "since": since}
        with suppress(OSError):  # on a full disk the lock holds all the same, namelessly
            os.pwrite(fd, json.dumps(holder).encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(fd, 0)
    finally:
        os.close(fd)


class Sign(NamedTuple):
    """What a lock looks like; two that are equal: nobody has begun or ended in between."""

    is_locked: bool
    moved_ns: int = 0
    """When it was last taken or let go."""


def look(state: Path, project: str) -> Sign:
    """Return whether somebody is at work on *project*; creates nothing."""
    try:
        fd = os.open(state / "projects" / project / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return Sign(is_locked=False)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return Sign(True, os.fstat(fd).st_mtime_ns)
    else:
        return Sign(False, os.fstat(fd).st_mtime_ns)
    finally:
        os.close(fd)


def _acquire(fd: int, project: str, timeout_s: float) -> None:
    deadline = time.monotonic() + max(timeout_s, _READERS_S)
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                raise LockBusyError(
                    f"project {project} is locked by {_holder(fd)}",
                    hint="wait for it to finish, or allow more time with --lock-timeout",
                ) from error
            time.sleep(_POLL_S)
        else:
            return


def _holder(fd: int) -> str:
    holder = _owner(fd)
    if not holder:
        return "another run that has just begun or is about to end"
    return (
        f"{holder['owner']} (process {holder['pid']}) since {holder['since']}: {holder['reason']}"
    )


def _owner(fd: int) -> Tree:
    """Return what the holder wrote into the lock file; nothing for a moment after it locked."""
    try:
        owner: Tree = json.loads(os.pread(fd, 4096, 0))
    except json.JSONDecodeError:
        return {}
    return owner
