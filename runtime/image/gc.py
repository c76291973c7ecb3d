"""Mark and sweep of an image store, and its verification.

Marked is what the names and the given live images reach: index -> manifest -> configuration and
layers -> unpacked folders. All else goes, unless it is younger than the grace period: it may belong
to a build that has not tagged its result yet (see `unswept`). Temporaries of dead writers go at
once.

Files are unlinked under the store's exclusive lock, so that nobody counts on a blob while it goes.
Folders are only renamed under it and deleted afterwards, which may take seconds.
"""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from runtime.errors import ImageError, NotFoundError
from runtime.image.blobs import BlobStore
from runtime.image.catalog import Catalog
from runtime.image.lock import TEMPORARY, StoreLock, leftovers
from runtime.image.model import Configuration, Index, Manifest, parse_document
from runtime.image.partial import forgotten
from runtime.image.unpack import LayerFolders, folder_names
from runtime.image.unswept import Unswept
from runtime.record import dataclass

DEFAULT_GRACE_S = 600.0
DEFAULT_DEBS_BYTES = 512 << 20
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class GcReport:
    """What was deleted; *freed* is the bytes of blobs and downloaded packages."""

    blobs: tuple[str, ...]
    layers: tuple[str, ...]
    leftovers: int
    freed: int


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is wrong: *what* is a digest or a name."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Loose:
    """What nothing needs: digests, layer folders, and what dead writers have left."""

    blobs: tuple[str, ...]
    layers: tuple[Path, ...]
    temporaries: tuple[Path, ...]


@dataclass(slots=True)
class _Marks:
    blobs: set[str]
    folders: set[str]


def collect(
    blobs: BlobStore,
    catalog: Catalog,
    unpacked: LayerFolders,
    lock: StoreLock,
    unswept: Unswept,
    *,
    live: frozenset[str],
    grace_s: float | None,
    debs_bytes: int,
) -> GcReport:
    """Sweep; idempotent, safe at any time beside builds and runs, and after being killed itself.

    *grace_s* None: nothing is young while nobody builds. The cache of Debian builds is cut to
    *debs_bytes*, oldest use first; it goes with the last image.

    Raises:
        ImageError: an image that must stay is damaged, so what it needs cannot be known. Nothing
            was deleted then; name the image and let the operator drop or replace it.
    """
    folder = blobs.folder
    if not (folder / "oci-layout").exists():
        return GcReport((), (), 0, 0)
    with unswept.sweeping() as alone:
        if grace_s is None:
            grace_s = 0.0 if alone else DEFAULT_GRACE_S
        with lock.exclusive():
            loose = find_loose(blobs, catalog, unpacked, live=live, grace_s=grace_s)
            freed = sum(blobs.delete(digest) for digest in loose.blobs)
            doomed = [_set_aside(path) for path in loose.layers] + list(loose.temporaries)
            in_use = bool(live or catalog.tags()) or not alone
            freed += _cut_cache(folder / "debs", debs_bytes if in_use else 0)
        for path in doomed:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    return GcReport(
        blobs=loose.blobs,
        layers=tuple(path.name for path in loose.layers),
        leftovers=len(loose.temporaries),
        freed=freed,
    )


def find_loose(
    blobs: BlobStore,
    catalog: Catalog,
    unpacked: LayerFolders,
    *,
    live: frozenset[str],
    grace_s: float,
) -> Loose:
    """Return what a sweep would delete. Changes nothing.

    Who acts upon it holds the store's lock exclusively; without it, what is just being put in its
    place may be among it. What vanishes meanwhile is not.

    Raises:
        ImageError: as for `collect`.
    """
    before = time.time() - grace_s
    marks = _mark(blobs, [*(tag.digest for tag in catalog.tags()), *sorted(live)])
    folder = blobs.folder
    return Loose(
        blobs=tuple(
            digest
            for digest in blobs.digests()
            if digest not in marks.blobs and _is_older(blobs.path(digest), before)
        ),
        layers=tuple(
            path
            for path in unpacked.paths()
            if path.name not in marks.folders and _is_older(path, before)
        ),
        temporaries=(
            *leftovers(unpacked.folder),
            *leftovers(folder / "tmp"),
            *forgotten(folder / "tmp"),
            *leftovers(folder / "keys"),
        ),
    )


def verify(blobs: BlobStore, catalog: Catalog) -> tuple[Damage, ...]:
    """Hash every blob again and follow every name; return what is wrong. Deletes nothing."""
    found = []
    for digest in blobs.digests():
        try:
            with blobs.open(digest) as reader:
                while reader.read(_CHUNK):
                    pass
        except (ImageError, NotFoundError) as error:
            found.append(Damage(digest, str(error)))
    for tag in catalog.tags():
        try:
            reached = _mark(blobs, [tag.digest]).blobs
        except ImageError as error:
            found.append(Damage(tag.name, str(error)))
            continue
        found += [
            Damage(tag.name, f"{digest} is missing")
            for digest in sorted(reached)
            if not blobs.exists(digest)
        ]
    return tuple(found)


def _is_older(path: Path, when: float) -> bool:
    """Tell whether *path* is there and was stored, or asked to be, no later than *when*."""
    try:
        return path.stat().st_mtime <= when
    except FileNotFoundError:
        return False


def _mark(blobs: BlobStore, roots: list[str]) -> _Marks:
    marks = _Marks(set(), set())
    todo = list(dict.fromkeys(roots))
    while todo:
        digest = todo.pop()
        if digest in marks.blobs:
            continue
        marks.blobs.add(digest)
        try:
            tree = parse_document(data := blobs.read(digest), digest)
            if "manifests" in tree:
                todo += [item.digest for item in Index.from_bytes(data).manifests]
                continue
            manifest = Manifest.from_bytes(data)
            marks.blobs |= {manifest.config.digest, *(item.digest for item in manifest.layers)}
            configuration = Configuration.from_bytes(blobs.read(manifest.config.digest))
            marks.folders |= set(folder_names(configuration.diff_ids))
        except (NotFoundError, ImageError) as error:
            if (
                isinstance(error, NotFoundError)
                and digest not in roots
                and not blobs.exists(digest)
            ):
                continue  # a platform of an index, which was never fetched
            raise ImageError(f"image {digest} is damaged, drop or replace it: {error}") from error
    return marks


def _set_aside(path: Path) -> Path:
    """Rename *path* to a temporary's name: if we are killed now, the next sweep finds it."""
    # A name of its own: one that an earlier sweep set aside may still be there.
    aside = path.with_name(f"{TEMPORARY}gone-{path.name}-{os.urandom(4).hex()}")
    path.rename(aside)
    return aside


def _cut_cache(folder: Path, limit: int) -> int:
    freed = 0
    total = 0
    for path, size, _ in sorted(_files(folder), key=lambda item: -item[2]):
        total += size
        if total > limit:
            path.unlink(missing_ok=True)
            freed += size
    return freed


def _files(folder: Path) -> Iterator[tuple[Path, int, float]]:
    for path in (*folder.glob("*.deb"), *folder.glob("*.tar")):
        with suppress(FileNotFoundError):
            status = path.stat()
            yield path, status.st_size, status.st_mtime
