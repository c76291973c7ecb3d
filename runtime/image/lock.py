"""The one lock of an image store, and temporaries that a dead writer cannot leave for good.

The lock is held for moments only: exclusively to rewrite the index or to sweep, shared to put a
finished file into its place or to start a temporary one. Nobody holds it while unpacking or
building. Readers need none: the index is replaced by rename and blobs never change.

A temporary file or folder is flocked by its writer as long as it lives; the kernel lets go when
the process dies, however it dies. So whoever sweeps can tell a leftover by taking its lock.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from runtime.errors import ConflictError
from runtime.kernel.flock import flock_within

TEMPORARY = ".tmp-"
_WAIT_S = 60.0


class StoreLock:
    """flock(2) on *path*; not re-entrant, and free of threads' identity: each use opens anew."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Hold it together with other users, but not with an index update or a sweep."""
        with self._held(fcntl.LOCK_SH):
            yield

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold it alone.

        Raises:
            ConflictError: somebody else kept it for a minute.
        """
        with self._held(fcntl.LOCK_EX):
            yield

    @contextmanager
    def _held(self, operation: int) -> Iterator[None]:
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not flock_within(fd, operation, _WAIT_S):
                raise ConflictError(f"image store is locked by another process: {self._path}")
            yield
        finally:
            os.close(fd)


def create_temporary_file(folder: Path) -> tuple[Path, int]:
    """Make an empty file of a fresh name in *folder*, flocked; return its path and descriptor.

    The caller holds the store's lock shared, or a sweep could come between the file and its lock.
    """
    path = folder / f"{TEMPORARY}{os.urandom(8).hex()}"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return path, fd


def create_temporary_folder(folder: Path, *, label: str = "") -> tuple[Path, int]:
    """Make an empty folder of a fresh name in *folder*, as `create_temporary_file` does a file.

    With *label*, `writer_of` finds whose it is.
    """
    mine = f"{label}.{os.getpid()}." if label else ""
    path = folder / f"{TEMPORARY}{mine}{os.urandom(8).hex()}"
    path.mkdir(0o700)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return path, fd


def writer_of(folder: Path, label: str) -> str:
    """Return who has made, and still writes, a temporary folder with a label that begins so."""
    for path in folder.glob(f"{TEMPORARY}{label}*.*.*"):
        with suppress(FileNotFoundError):  # it is finished just now
            if not _is_left(path):
                return f"process {path.name.split('.')[-2]}"
    return "another process"


def leftovers(folder: Path) -> tuple[Path, ...]:
    """Return the temporaries in *folder* whose writer is gone.

    Who acts upon it holds the store's lock exclusively; without it, one just being made may be
    among them. With it, too, they may vanish: writers and sweeps take away their own.
    """
    found = []
    for path in sorted(folder.glob(f"{TEMPORARY}*")):
        with suppress(FileNotFoundError):
            if _is_left(path):
                found.append(path)
    return tuple(found)


def _is_left(path: Path) -> bool:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return flock_within(fd, fcntl.LOCK_EX, 0)
    finally:
        os.close(fd)
