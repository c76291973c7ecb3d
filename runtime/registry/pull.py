"""An image from a registry into the store: only what is not there yet moves.

Blobs come in parallel, each verified, and are unpacked in order as soon as they are there. What a
broken connection, or a kill, has left of one is gone on with.

Source: OCI distribution-spec, "Pull"; image-spec, image-index.md.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from runtime.errors import ImageError
from runtime.image.model import Configuration, Descriptor, Index, Manifest, Platform, parse_document
from runtime.image.partial import PartialBlob, open_partial
from runtime.image.reference import Reference
from runtime.image.store import ImageStore
from runtime.record import dataclass
from runtime.registry.client import Document, Repository
from runtime.registry.errors import RegistryError, UnreachableError
from runtime.registry.transfers import Transfers

_T = TypeVar("_T")
_PARALLEL = 4
_TRIES = 5
_PIECE = 1 << 18
_LONGEST_PAUSE_S = 16.0


@dataclass(frozen=True, slots=True)
class Pulled:
    """An image that is in the store, unpacked."""

    digest: str
    """What its name points at: an index, or a manifest."""
    fetched: int
    """Bytes that moved."""
    present: int
    """Bytes that were there."""


def pull(
    store: ImageStore,
    sources: Sequence[Repository],
    reference: Reference,
    name: str,
    *,
    platform: Platform | None = None,
    transfers: Transfers,
    pause: Callable[[float], None] = time.sleep,
) -> Pulled:
    """Bring *reference* into the store under *name*, from the first of *sources* that has it.

    Idempotent: what is there is not fetched, and *name* is put on it only when all is. *platform*
    is by default this machine's.

    Raises:
        RegistryError: no source has it, or lets us have it.
        ImageError: it is damaged, or there is none for the platform.
        LayerError: a layer is hostile.
    """
    with store.changing():
        top, remaining = _resolved(store, sources, reference, transfers)
        fetcher = _Fetcher(store, remaining, transfers, pause)
        manifest = fetcher.manifest_of(top, platform or Platform.host(), str(reference))
        present = fetcher.fetch(
            manifest, lambda found: _check(found, platform, reference, transfers)
        )
        store.tag(name, top.digest)
    return Pulled(top.digest, fetcher.fetched, present)


def _resolved(
    store: ImageStore, sources: Sequence[Repository], reference: Reference, transfers: Transfers
) -> tuple[Document, Sequence[Repository]]:
    """Return what *reference* is, and those sources from the one on that knew."""
    wanted = reference.digest or reference.tag or ""
    for number, source in enumerate(sources):
        try:
            if reference.digest and store.blobs.keep(reference.digest):
                data = store.blobs.read(reference.digest)
                return Document("", reference.digest, data), sources
            return source.manifest(wanted), sources[number:]
        except RegistryError as error:
            if number == len(sources) - 1:
                raise
            transfers.said(f"{error}; asking {sources[number + 1]}")
    raise ImageError(f"{reference}: there is nobody to ask")


class _Fetcher:
    def __init__(
        self,
        store: ImageStore,
        sources: Sequence[Repository],
        transfers: Transfers,
        pause: Callable[[float], None],
    ) -> None:
        self._store = store
        self._blobs = store.blobs
        self._sources = sources
        self._transfers = transfers
        self._pause = pause
        self._stopped = threading.Event()
        self.fetched = 0

    def manifest_of(self, top: Document, platform: Platform, what: str) -> Manifest:
        """Return the manifest for *platform* that *top* is, or leads to; stored by then."""
        document = top
        for _ in range(3):  # an index of indexes is allowed, and no more than that is sane
            tree = parse_document(document.data, what)
            if "manifests" not in tree:
                if tree.get("schemaVersion") == 1:
                    raise ImageError(f"{what}: is in Docker's schema 1, which is no longer read")
                self._blobs.put_as(document.data, document.digest)
                return Manifest.from_bytes(document.data)
            index = Index.from_bytes(document.data)
            chosen = index.for_platform(platform)
            if chosen is None:
                there = sorted({_words(item.platform) for item in index.manifests if item.platform})
                raise ImageError(
                    f"{what}: has no image for {_words(platform)}, but for {', '.join(there)}"
                )
            self._blobs.put_as(document.data, document.digest)
            document = self._document(chosen)
        raise ImageError(f"{what}: its indexes lead to no image")

    def fetch(self, manifest: Manifest, check: Callable[[Configuration], None]) -> int:
        """Fetch what is missing, and unpack it; return the bytes that were there.

        What *check* raises comes before any layer is unpacked.
        """
        parts = list({part.digest: part for part in (manifest.config, *manifest.layers)}.values())
        missing = [part for part in parts if not self._blobs.keep(part.digest)]
        total = sum(part.size for part in parts)
        present = total - sum(part.size for part in missing)
        self._transfers.planned(total, present)
        pool = ThreadPoolExecutor(_PARALLEL, thread_name_prefix="pull")
        try:
            coming: dict[str, Future[int]] = {
                part.digest: pool.submit(self._blob, part) for part in missing
            }
            self._take(coming, manifest.config)
            configuration = Configuration.from_bytes(self._blobs.read(manifest.config.digest))
            check(configuration)
            diff_ids = configuration.diff_ids
            for number, layer in enumerate(manifest.layers, 1):
                self._take(coming, layer)
                self._store.unpacked.ensure(manifest.layers[:number], diff_ids[:number])
        finally:
            self._stopped.set()
            pool.shutdown(wait=True, cancel_futures=True)
        return present

    def _take(self, coming: dict[str, Future[int]], part: Descriptor) -> None:
        if part.digest in coming:
            self.fetched += coming.pop(part.digest).result()

    def _document(self, wanted: Descriptor) -> Document:
        if self._blobs.keep(wanted.digest):
            return Document(wanted.media_type, wanted.digest, self._blobs.read(wanted.digest))
        return self._from_any(lambda source: source.manifest(wanted.digest))

    def _blob(self, part: Descriptor) -> int:
        """Fetch one blob; return the bytes that moved."""
        with open_partial(self._blobs, part.digest) as partial:
            if partial is None:
                return 0
            if partial.size > part.size:
                partial.restart()
            begun = partial.size
            self._transfers.moved(begun)
            self._from_any(lambda source: self._download(source, part, partial))
            partial.commit()
            return part.size - begun

    def _download(self, source: Repository, part: Descriptor, partial: PartialBlob) -> None:
        """Read the rest of a blob; what breaks off is gone on with, while it gets anywhere."""
        tries = 0
        while partial.size < part.size:
            before = partial.size
            try:
                self._read(source, part, partial)
            except UnreachableError as error:
                tries = 0 if partial.size > before else tries + 1
                if tries == _TRIES:
                    raise
                self._transfers.said(f"{error}; going on at {partial.size} of {part.size} bytes")
                self._pause(min(_LONGEST_PAUSE_S, 2.0**tries))

    def _read(self, source: Repository, part: Descriptor, partial: PartialBlob) -> None:
        with source.blob(part.digest, offset=partial.size) as (begin, answer):
            if begin != partial.size:
                self._transfers.moved(-partial.size)
                partial.restart()
            while data := answer.read(_PIECE):
                if self._stopped.is_set():
                    raise ImageError(f"{source}@{part.digest}: given up, since another failed")
                if partial.size + len(data) > part.size:
                    partial.restart()
                    raise ImageError(f"{source}@{part.digest}: longer than its {part.size} bytes")
                partial.write(data)
                self._transfers.moved(len(data))
        if partial.size < part.size:
            raise UnreachableError(f"{source}@{part.digest}: ended before all had come")

    def _from_any(self, ask: Callable[[Repository], _T]) -> _T:
        """Return what the first source that has it answers."""
        for number, source in enumerate(self._sources):
            try:
                return ask(source)
            except RegistryError as error:
                if number == len(self._sources) - 1:
                    raise
                self._transfers.said(f"{error}; asking {self._sources[number + 1]}")
        raise AssertionError("there is a source, or none would have known the image")


def _check(
    found: Configuration, asked: Platform | None, reference: Reference, transfers: Transfers
) -> None:
    """See that an image is for the platform; only where that was asked for, it has to be."""
    wanted = asked or Platform.host()
    if wanted.runs(found.platform):
        return
    text = f"{reference}: is for {_words(found.platform)}, not for {_words(wanted)}"
    if asked is not None:
        raise ImageError(text)
    transfers.said(text)


def _words(platform: Platform | None) -> str:
    if platform is None:
        return "any"
    parts = (platform.os, platform.architecture, platform.variant)
    return "/".join(part for part in parts if part)
