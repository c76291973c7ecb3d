"""Content-addressed files: ``blobs/sha256/<hex>`` of an OCI layout.

A blob appears under its name complete, synced and with the right content, or not at all, and
never changes afterwards. Every read checks the digest again, so that a damaged disk is an error
and not a wrong container.

Source: OCI image-spec, image-layout.md.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from runtime.errors import ImageError, NotFoundError
from runtime.image.digest import Readable, VerifiedReader, check_digest, digest_of, hex_of
from runtime.image.lock import StoreLock, create_temporary_file
from runtime.kernel.replace import naming, sync_folder, write_all

_CHUNK = 1 << 20
DOCUMENT_LIMIT = 16 << 20
"""Bytes of a manifest, index or configuration we are willing to hold in memory."""


class BlobStore:
    """The blobs below *folder*, which must exist before anything is written."""

    def __init__(self, folder: Path, lock: StoreLock) -> None:
        self.folder = folder
        self._lock = lock
        self._temporary = folder / "tmp"

    def path(self, digest: str) -> Path:
        """Return where *digest* is or would be."""
        algorithm, _, name = check_digest(digest).partition(":")
        return self.folder / "blobs" / algorithm / name

    def exists(self, digest: str) -> bool:
        """Say whether *digest* is stored."""
        return self.path(digest).exists()

    def keep(self, digest: str) -> bool:
        """Say whether *digest* is stored, and make it look new, so that a sweep spares it."""
        with self._lock.shared():
            try:
                os.utime(self.path(digest))
            except FileNotFoundError:
                return False
        return True

    def size(self, digest: str) -> int:
        """Return the bytes of *digest*.

        Raises:
            NotFoundError: it is not stored.
        """
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError as error:
            raise NotFoundError(f"no blob {digest} in the image store") from error

    def digests(self) -> Iterator[str]:
        """Yield every stored digest."""
        top = self.folder / "blobs"
        for algorithm in sorted(top.iterdir()) if top.exists() else ():
            for path in sorted(algorithm.iterdir()):
                yield f"{algorithm.name}:{path.name}"

    @contextmanager
    def open(self, digest: str) -> Iterator[VerifiedReader]:
        """Open *digest* for reading; its content is right once the reader has reached the end.

        Raises:
            NotFoundError: it is not stored.
        """
        with self.open_file(digest) as file:
            yield VerifiedReader(file, digest)

    def open_file(self, digest: str) -> BinaryIO:
        """Open the plain file of *digest*, unverified; the caller closes it."""
        try:
            # Unbuffered: readers ask for big pieces, and two copies would be one too many.
            return self.path(digest).open("rb", buffering=0)
        except FileNotFoundError as error:
            raise NotFoundError(f"no blob {digest} in the image store") from error

    def read(self, digest: str) -> bytes:
        """Return a small document whole, verified.

        Raises:
            NotFoundError: it is not stored.
            ImageError: damaged, or larger than any sane document.
        """
        with self.open(digest) as reader:
            data = reader.read(DOCUMENT_LIMIT + 1)
            if len(data) > DOCUMENT_LIMIT:
                raise ImageError(f"{digest}: larger than {DOCUMENT_LIMIT} bytes, not a document")
            reader.read(1)
        return data

    def put(self, data: bytes) -> str:
        """Store a document and return its digest. Idempotent; one that is damaged is put right."""
        digest = digest_of(data)
        if not self.keep(digest) or self.path(digest).read_bytes() != data:
            with self.writer() as writer:
                writer.write(data)
                writer.commit()
        return digest

    def put_as(self, data: bytes, digest: str) -> None:
        """Store a document under the digest it is known by, in whatever algorithm. Idempotent.

        Raises:
            ImageError: it does not have that digest.
        """
        if digest_of(data) == digest:
            self.put(data)
            return
        with self.writer(digest=digest) as writer:
            writer.write(data)
            writer.commit()

    def put_stream(self, source: Readable, *, digest: str | None = None) -> tuple[str, int]:
        """Store everything *source* has; return digest and bytes.

        Raises:
            ImageError: the content does not have *digest*.
        """
        with self.writer(digest=digest) as writer:
            while data := source.read(_CHUNK):
                writer.write(data)
            return writer.commit()

    def writer(self, *, digest: str | None = None) -> "BlobWriter":
        """Start a blob; see `BlobWriter`. *digest* is what its content must have."""
        with self._lock.shared():
            path, fd = create_temporary_file(self._temporary)
        return BlobWriter(self, path, fd, digest)

    def delete(self, digest: str) -> int:
        """Remove *digest* if it is there; return the bytes freed."""
        path = self.path(digest)
        try:
            size = path.stat().st_size
            path.unlink()
        except FileNotFoundError:
            return 0
        return size

    def publish(self, temporary: Path, digest: str) -> None:
        """Give a synced temporary its name; used by `BlobWriter`. Idempotent."""
        target = self.path(digest)
        with self._lock.shared():
            target.parent.mkdir(0o700, exist_ok=True)
            temporary.rename(target)
            sync_folder(target.parent)


class BlobWriter:
    """A blob being written. Without `commit` nothing stays; leaving the block cleans up."""

    def __init__(self, store: BlobStore, path: Path, fd: int, digest: str | None) -> None:
        self._store = store
        self._path = path
        self._fd = fd
        self._digest = digest
        algorithm = "sha256" if digest is None else check_digest(digest).partition(":")[0]
        self._algorithm = algorithm
        self._hash = hashlib.new(algorithm)
        self._size = 0

    def __enter__(self) -> "BlobWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._fd)

    def write(self, data: bytes | memoryview) -> None:
        """Append *data*."""
        self._hash.update(data)
        self._size += len(data)
        with naming(self._path):
            write_all(self._fd, data)

    def commit(self) -> tuple[str, int]:
        """Sync and publish; return digest and bytes.

        Raises:
            ImageError: the content does not have the digest announced.
        """
        digest = f"{self._algorithm}:{self._hash.hexdigest()}"
        if self._digest is not None and digest != self._digest:
            raise ImageError(f"{hex_of(self._digest)[:12]}: content is damaged, got {digest}")
        os.fsync(self._fd)
        self._store.publish(self._path, digest)
        return digest, self._size
