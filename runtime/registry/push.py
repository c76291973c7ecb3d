"""An image of the store to a registry: only what is not there yet moves.

What a registry has is asked for blob by blob; what another of its repositories has, by what this
host has pulled or pushed there, is mounted from it. The manifest goes last, so nobody sees half an
image.

Source: OCI distribution-spec, "Push" and "Mounting a blob from another repository".
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, cast

from runtime.errors import ImageError, NotFoundError
from runtime.image.model import Descriptor, Index, Manifest, Platform, parse_document
from runtime.image.reference import Reference, parse_reference
from runtime.image.store import ImageStore
from runtime.record import dataclass
from runtime.registry.client import Document, Repository
from runtime.registry.errors import UnreachableError
from runtime.registry.transfers import Transfers

_PARALLEL = 4
_TRIES = 5
_LONGEST_PAUSE_S = 16.0


@dataclass(frozen=True, slots=True)
class Pushed:
    """What is at the registry now."""

    digest: str
    """What the tag points at there: an index, or a manifest."""
    sent: int
    """Bytes that moved."""
    present: int
    """Bytes that were there."""
    mounted: int
    """Bytes that another repository of it had."""


def push(
    store: ImageStore,
    digest: str,
    target: Repository,
    reference: Reference,
    *,
    transfers: Transfers,
    pause: Callable[[float], None] = time.sleep,
) -> Pushed:
    """Put image *digest* at *target* under the tag of *reference*, or none. Idempotent.

    Of an index all is pushed if all of it is in the store; else only what this machine would run.

    Raises:
        NotFoundError: there is no such image.
        ImageError: it is damaged.
        RegistryError: the registry refuses.
    """
    # A sweep is held off: what is being sent must not go meanwhile.
    with store.changing():
        documents = _documents(store, digest, transfers)
        pusher = _Pusher(store, target, _siblings(store, reference), transfers, pause)
        moved = pusher.send(documents)
        *parts, top = documents
        for part in parts:
            target.put_manifest(part.digest, part)
        target.put_manifest(reference.tag or top.digest, top)
    return Pushed(top.digest, moved["sent"], moved["present"], moved["mounted"])


def _documents(store: ImageStore, digest: str, transfers: Transfers) -> list[Document]:
    """Return the manifests of an image, and its index last if it has one."""
    data = store.blobs.read(digest)
    if "manifests" not in parse_document(data, digest):
        return [_document(store, digest)]
    items = Index.from_bytes(data).manifests
    try:
        inner = [each for item in items for each in _documents(store, item.digest, transfers)]
    except NotFoundError:
        chosen = Index.from_bytes(data).for_platform(Platform.host())
        if chosen is None:
            raise
        transfers.said(f"{digest}: not all its platforms are here, so only this machine's is sent")
        return _documents(store, chosen.digest, transfers)
    return [*inner, _document(store, digest)]


def _document(store: ImageStore, digest: str) -> Document:
    return Document(store.describe(digest).media_type, digest, store.blobs.read(digest))


class _Pusher:
    def __init__(
        self,
        store: ImageStore,
        target: Repository,
        siblings: Mapping[str, Sequence[str]],
        transfers: Transfers,
        pause: Callable[[float], None],
    ) -> None:
        self._store = store
        self._target = target
        self._transfers = transfers
        self._pause = pause
        self._siblings = siblings

    def send(self, documents: Sequence[Document]) -> Counter[str]:
        """Have the blobs of all manifests at the registry; return bytes by how, see `_bring`."""
        moved: Counter[str] = Counter()
        blobs: dict[str, Descriptor] = {}
        for document in documents:
            if "manifests" not in parse_document(document.data, document.digest):
                manifest = Manifest.from_bytes(document.data)
                for part in (manifest.config, *manifest.layers):
                    if not self._store.blobs.exists(part.digest):
                        raise ImageError(f"{document.digest}: its blob {part.digest} is missing")
                    blobs[part.digest] = part
        self._transfers.planned(sum(part.size for part in blobs.values()), 0)
        pool = ThreadPoolExecutor(_PARALLEL, thread_name_prefix="push")
        try:
            for part, how in zip(
                blobs.values(), pool.map(self._bring, blobs.values()), strict=True
            ):
                moved[how] += part.size
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        return moved

    def _bring(self, part: Descriptor) -> str:
        """Have one blob there; return how: ``present``, ``mounted`` or ``sent``."""
        if self._target.has_blob(part.digest):
            self._transfers.moved(part.size)
            return "present"
        for sibling in self._siblings.get(part.digest, ()):
            if self._target.mount_blob(part.digest, sibling):
                self._transfers.moved(part.size)
                return "mounted"
        for number in range(1, _TRIES + 1):
            counted = _Counted(self._store.blobs.open_file(part.digest), self._transfers)
            with counted.file:
                try:
                    self._target.upload_blob(part.digest, part.size, cast(IO[bytes], counted))
                    return "sent"
                except UnreachableError as error:
                    self._transfers.moved(-counted.size)
                    if number == _TRIES:
                        raise
                    self._transfers.said(f"{error}; sending it again")
            self._pause(min(_LONGEST_PAUSE_S, 2.0 ** (number - 1)))
        raise AssertionError("the last try returns or raises")


class _Counted:
    """A file that tells how much was read of it."""

    def __init__(self, file: IO[bytes], transfers: Transfers) -> None:
        self.file = file
        self.size = 0
        self._transfers = transfers

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self.size += len(data)
        self._transfers.moved(len(data))
        return data


def _siblings(store: ImageStore, target: Reference) -> dict[str, list[str]]:
    """Return which other repositories of the registry should have a blob, by our names."""
    found: dict[str, list[str]] = {}
    for tag in store.catalog.tags():
        try:
            reference = parse_reference(tag.name)
            if reference.registry != target.registry or reference.repository == target.repository:
                continue
            manifest = store.manifest(tag.digest)
        except (ImageError, NotFoundError):
            continue
        for part in (manifest.config, *manifest.layers):
            found.setdefault(part.digest, []).append(reference.repository)
    return found
