"""The index of the store: which names point at which images.

``index.json`` of the OCI layout, one descriptor per name, so that any tool that reads layouts
can read the store. It is replaced by rename under the store's lock; readers see the old or the
new one.

Source: OCI image-spec, image-layout.md, "index.json file"; annotations.md.
"""

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from runtime.documents import parse_state
from runtime.errors import DamagedError, ImageError
from runtime.image.lock import StoreLock, create_temporary_file
from runtime.image.model import REF_NAME, Descriptor, Index
from runtime.kernel.replace import naming, sync_folder, write_all
from runtime.record import dataclass

_CREATED = "org.opencontainers.image.created"
# The characters of org.opencontainers.image.ref.name in annotations.md.
_NAME = re.compile(r"[A-Za-z0-9][-._:@+/A-Za-z0-9]*", re.ASCII)
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


@dataclass(frozen=True, slots=True)
class Tag:
    """One name; *tagged_at* is when it got its digest (RFC 3339, UTC)."""

    name: str
    digest: str
    tagged_at: str


class Catalog:
    """The names below *folder*; reading an absent one gives no names and writes nothing."""

    def __init__(self, folder: Path, lock: StoreLock) -> None:
        self._folder = folder
        self._lock = lock

    def prepare(self) -> None:
        """Make the layout's fixed parts. Idempotent."""
        for part in ("", "blobs", "blobs/sha256", "keys", "tmp"):
            (self._folder / part).mkdir(0o700, parents=True, exist_ok=True)
        if not (self._folder / "oci-layout").exists():
            with self._lock.exclusive():
                self._replace("oci-layout", _LAYOUT)

    @property
    def index_file(self) -> Path:
        """Where the index is."""
        return self._folder / "index.json"

    def index(self) -> Index:
        """Return the index as it is.

        Raises:
            ImageError: it is damaged.
        """
        try:
            data = self.index_file.read_bytes()
            parse_state(self.index_file, data)
        except FileNotFoundError:
            return Index()
        except DamagedError as error:
            raise ImageError(str(error)) from None
        return Index.from_bytes(data)

    def tags(self) -> tuple[Tag, ...]:
        """Return all names, sorted."""
        return _tags(self.index())

    def resolve(self, name: str) -> str | None:
        """Return the digest *name* points at."""
        return next((tag.digest for tag in self.tags() if tag.name == name), None)

    def tag(self, name: str, manifest: Descriptor, *, at: str) -> None:
        """Point *name* at *manifest*, away from what it was. Idempotent, atomic.

        Raises:
            ImageError: *name* is no name.
        """
        check_name(name)

        def point(index: Index) -> Index:
            current = [item for item in index.manifests if item.annotations.get(REF_NAME) == name]
            if [item.digest for item in current] == [manifest.digest]:
                return index
            others = tuple(item for item in index.manifests if item not in current)
            named = replace(manifest, annotations={REF_NAME: name, _CREATED: at})
            return replace(index, manifests=(*others, named))

        self._update(point)

    def untag(self, keep: Callable[[Tag], bool]) -> tuple[Tag, ...]:
        """Drop the names *keep* says no to, and return them. Idempotent, atomic."""
        dropped: tuple[Tag, ...] = ()

        def drop(index: Index) -> Index:
            nonlocal dropped
            dropped = tuple(tag for tag in _tags(index) if not keep(tag))
            names = {tag.name for tag in dropped}
            kept = tuple(
                item for item in index.manifests if item.annotations.get(REF_NAME) not in names
            )
            return replace(index, manifests=kept) if dropped else index

        if self.index().manifests:
            self._update(drop)
        return dropped

    def _update(self, change: Callable[[Index], Index]) -> None:
        with self._lock.exclusive():
            before = self.index()
            after = change(before)
            if after is not before:
                self._replace("index.json", after.to_bytes())

    def _replace(self, name: str, data: bytes) -> None:
        path, fd = create_temporary_file(self._folder / "tmp")
        try:
            try:
                with naming(self._folder / name):
                    write_all(fd, data)
                    os.fsync(fd)
                path.rename(self._folder / name)
            except OSError:
                path.unlink()
                raise
        finally:
            os.close(fd)
        sync_folder(self._folder)


def _tags(index: Index) -> tuple[Tag, ...]:
    return tuple(
        sorted(
            (
                Tag(item.annotations[REF_NAME], item.digest, item.annotations.get(_CREATED, ""))
                for item in index.manifests
                if REF_NAME in item.annotations
            ),
            key=lambda tag: tag.name,
        )
    )


def check_name(name: str) -> str:
    """Return *name* if an image can be called so.

    Raises:
        ImageError: it cannot.
    """
    if len(name) > 255 or not _NAME.fullmatch(name):
        raise ImageError(f"not an image name: {name!r}")
    return name
