"""The begin of a blob whose rest is still to come: what a broken download leaves to go on with.

``images/tmp/partial-<algorithm>-<hex>``, flocked by whoever downloads it. It is not synced and not
trusted: what is there is hashed again, and only the whole counts, under its digest.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from runtime.errors import ConflictError, ImageError
from runtime.image.blobs import BlobStore
from runtime.image.digest import hex_of
from runtime.kernel.flock import flock_within
from runtime.kernel.replace import naming, write_all

PARTIAL = "partial-"
_KEPT_S = 24 * 3600.0
_WAIT_S = 3600.0
"""For another who downloads the same."""
_CHUNK = 1 << 20


class PartialBlob:
    """A file that grows until it has all the content of *digest*."""

    def __init__(self, blobs: BlobStore, digest: str, path: Path, fd: int) -> None:
        self._blobs = blobs
        self._digest = digest
        self._path = path
        self._fd = fd
        self._hash = hashlib.new(digest.partition(":")[0])
        self.size = 0
        """Bytes that are there."""
        while data := os.pread(fd, _CHUNK, self.size):
            self._hash.update(data)
            self.size += len(data)
        os.lseek(fd, self.size, os.SEEK_SET)

    def write(self, data: bytes) -> None:
        """Append *data*."""
        self._hash.update(data)
        self.size += len(data)
        with naming(self._path):
            write_all(self._fd, data)

    def restart(self) -> None:
        """Drop what is there."""
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._hash = hashlib.new(self._digest.partition(":")[0])
        self.size = 0

    def commit(self) -> None:
        """Sync and publish it under its digest.

        Raises:
            ImageError: it has other content; what is there is dropped.
        """
        found = self._hash.hexdigest()
        if found != hex_of(self._digest):
            self.restart()
            raise ImageError(f"{self._digest}: content is damaged (its digest is {found})")
        os.fsync(self._fd)
        self._blobs.publish(self._path, self._digest)


@contextmanager
def open_partial(blobs: BlobStore, digest: str) -> Iterator[PartialBlob | None]:
    """Yield what there is of *digest*, to go on with; None if it is stored by now.

    Who gets it has it alone. The store's folders must be there.

    Raises:
        ConflictError: somebody else downloads it, for an hour.
    """
    algorithm, _, name = digest.partition(":")
    path = blobs.folder / "tmp" / f"{PARTIAL}{algorithm}-{name}"
    deadline = time.monotonic() + _WAIT_S
    while True:
        if blobs.keep(digest):
            yield None
            return
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if not flock_within(fd, fcntl.LOCK_EX, max(0.0, deadline - time.monotonic())):
                raise ConflictError(f"{digest} is being downloaded by somebody else")
            # Else it was finished, or swept, while we waited.
            if _is_at(fd, path):
                yield PartialBlob(blobs, digest, path, fd)
                return
        finally:
            os.close(fd)


def forgotten(folder: Path) -> tuple[Path, ...]:
    """Return the partial blobs in *folder* nobody has gone on with for a day."""
    found = []
    for path in sorted(folder.glob(f"{PARTIAL}*")):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - _KEPT_S and not _is_held(path):
                found.append(path)
    return tuple(found)


def _is_held(path: Path) -> bool:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return not flock_within(fd, fcntl.LOCK_EX, 0)
    finally:
        os.close(fd)


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False
