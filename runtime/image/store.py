"""The image store: what the engine asks about images, in one class.

An image is named by the digest of its manifest. Sources (`build_host`, `build_debian`,
`load_archive`) store one and return its digest; names are put on digests with `tag`; containers
run from `layers`, folders unpacked once and shared. Same inputs give the same digest.

Below it: `blobs` (content), `catalog` (names), `unpack` (layers as folders), `gc` (sweeping), and
one module per source. Several processes may use one store at the same time, and any of them may
be killed at any moment.
"""

import datetime
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from runtime.errors import ImageError, NotFoundError
from runtime.image.blobs import BlobStore
from runtime.image.catalog import Catalog, Tag
from runtime.image.digest import is_digest
from runtime.image.gc import (
    DEFAULT_DEBS_BYTES,
    DEFAULT_GRACE_S,
    Damage,
    GcReport,
    Loose,
    collect,
    find_loose,
    verify,
)
from runtime.image.lock import StoreLock
from runtime.image.model import (
    Configuration,
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    Platform,
    parse_document,
)
from runtime.image.mutate import Overrides, override, seal
from runtime.image.progress import Progress, ignore_progress
from runtime.image.reference import parse_reference
from runtime.image.unpack import LayerFolders
from runtime.image.unswept import Unswept
from runtime.record import dataclass
from runtime.root import Root


@dataclass(frozen=True, slots=True)
class StoredImage:
    """One row of a listing; *size* is the bytes of its blobs, shared ones counted in full."""

    name: str
    digest: str
    tagged_at: str
    size: int


class ImageStore:
    """The images of one world. Making one touches nothing on disk; the first write does."""

    def __init__(self, root: Root) -> None:
        self.root = root
        self.folder = root.state / "images"
        self.key_cache = self.folder / "keys"
        self.lock = StoreLock(self.folder / "lock")
        self.blobs = BlobStore(self.folder, self.lock)
        self.catalog = Catalog(self.folder, self.lock)
        self.unswept = Unswept(self.folder / "unswept")
        self.unpacked = LayerFolders(root.state / "layers", self.blobs, self.lock)

    # Sources

    def build_host(
        self,
        programs: tuple[str, ...],
        files: tuple[str, ...] = (),
        config: Overrides | None = None,
        *,
        name: str | None = None,
        progress: Progress = ignore_progress,
    ) -> str:
        """Make an image of programs of this host and what they need to run; return its digest.

        See `runtime.image.host`. *name* is tagged before any sweep can see the image untagged.

        Raises:
            ImageError: a program or file is not there, or a library it needs is missing.
        """
        # The sources are imported when used: most runs build nothing.
        from runtime.image.host import build

        with self.changing():
            return self._finish(build(self.blobs, programs, files, progress=progress), config, name)

    def build_debian(
        self,
        packages: tuple[str, ...],
        suite: str | None = None,
        variant: str = "apt",
        config: Overrides | None = None,
        *,
        name: str | None = None,
        progress: Progress = ignore_progress,
    ) -> str:
        """Make a Debian root with *packages* by mmdebstrap; return its digest.

        See `runtime.image.debian`. Takes seconds to minutes, and the network.

        Raises:
            UnsupportedHostError: mmdebstrap is not installed, or we are not root.
            ImageError: a package is not found, or mmdebstrap failed; carries its last lines.
        """
        from runtime.image.debian import build

        with self.changing():
            manifest = build(
                self.blobs, self.lock, packages, suite=suite, variant=variant, progress=progress
            )
            return self._finish(manifest, config, name)

    def load_archive(
        self,
        path: Path | str,
        reference: str | None = None,
        config: Overrides | None = None,
        *,
        name: str | None = None,
        progress: Progress = ignore_progress,
    ) -> str:
        """Store one image of a docker-archive or OCI archive, tar or folder; return its digest.

        See `runtime.image.archive`. *reference* picks among several.

        Raises:
            ImageError: not an archive, damaged, or it is not clear which image is meant.
        """
        from runtime.image.archive import load

        with self.changing():
            loaded = load(self.blobs, Path(path), reference, progress=progress)
            return self._finish(loaded, config, name)

    # Names

    def tag(self, name: str, digest: str) -> None:
        """Point *name* at the stored image *digest*. Idempotent, atomic.

        Raises:
            NotFoundError: no such image.
            ImageError: *name* is no name.
        """
        at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        manifest = self.describe(digest)
        with self.changing():
            self.catalog.tag(name, manifest, at=at.replace("+00:00", "Z"))

    def untag(self, name: str) -> bool:
        """Drop *name*; say whether it was there. Content stays until `gc`."""
        return bool(self._untag(lambda tag: tag.name != name))

    def resolve(self, name: str) -> str | None:
        """Return the digest *name* points at; a stored digest stands for itself.

        ``redis`` is docker.io/library/redis:latest, unless there is an image of just that name.
        """
        if is_digest(name):
            return name if self.blobs.exists(name) else None
        return self.catalog.resolve(self.full_name(name))

    def full_name(self, name: str) -> str:
        """Return the name in the store that *name* is, or may be, short for."""
        if self.catalog.resolve(name) is None:
            with suppress(ImageError):
                return str(parse_reference(name))
        return name

    def list(self) -> tuple[StoredImage, ...]:
        """Return every name with its image, sorted."""
        return tuple(self._row(tag) for tag in self.catalog.tags())

    def remove(self, digest: str) -> tuple[str, ...]:
        """Drop every name of *digest* and return them. Content stays until `gc`. Idempotent."""
        return tuple(tag.name for tag in self._untag(lambda tag: tag.digest != digest))

    # Content

    def manifest(self, digest: str) -> Manifest:
        """Return the manifest of *digest*; of an index, the one for this machine.

        Raises:
            NotFoundError: no such image, or none for this machine.
            ImageError: damaged.
        """
        data = self.blobs.read(digest)
        if "manifests" not in parse_document(data, digest):
            return Manifest.from_bytes(data)
        platform = Platform.host()
        chosen = Index.from_bytes(data).for_platform(platform)
        if chosen is None:
            raise NotFoundError(f"{digest} has no image for {platform.os}/{platform.architecture}")
        return Manifest.from_bytes(self.blobs.read(chosen.digest))

    def configuration(self, digest: str) -> Configuration:
        """Return the whole configuration document of image *digest*."""
        return Configuration.from_bytes(self.blobs.read(self.manifest(digest).config.digest))

    def config(self, digest: str) -> ImageConfig:
        """Return what image *digest* says about running it.

        Raises:
            NotFoundError: no such image.
            ImageError: damaged.
        """
        return self.configuration(digest).config

    def present_layers(self, digest: str) -> tuple[str, ...] | None:
        """Return what `layers` would where all is unpacked already, else None. Reads only."""
        try:
            manifest = self.manifest(digest)
            configuration = Configuration.from_bytes(self.blobs.read(manifest.config.digest))
        except (ImageError, NotFoundError):
            return None
        return self.unpacked.present(configuration.diff_ids)

    def layers(self, digest: str) -> tuple[str, ...]:
        """Return the folders of image *digest*, lowest first, unpacking what is not there yet.

        Safe beside other callers unpacking the same layers. The folders must not be changed.

        Raises:
            NotFoundError: no such image.
            LayerError: a layer is damaged or hostile.
        """
        manifest = self.manifest(digest)
        configuration = Configuration.from_bytes(self.blobs.read(manifest.config.digest))
        self.prepare()
        return self.unpacked.ensure(manifest.layers, configuration.diff_ids)

    def describe(self, digest: str) -> Descriptor:
        """Return the descriptor of the stored manifest or index *digest*."""
        data = self.blobs.read(digest)
        tree = parse_document(data, digest)
        kind = Index if "manifests" in tree else Manifest
        return Descriptor(kind.from_bytes(data).media_type, digest, len(data))

    # Upkeep

    def gc(
        self,
        live: Iterable[str] = (),
        *,
        grace_s: float | None = None,
        debs_bytes: int = DEFAULT_DEBS_BYTES,
    ) -> GcReport:
        """Delete what no name and none of the images *live* needs; see `runtime.image.gc`.

        *live* are the digests of images that containers, records or revisions still need. What
        is younger than *grace_s* stays; None spares it only while somebody builds.
        """
        return collect(
            self.blobs,
            self.catalog,
            self.unpacked,
            self.lock,
            self.unswept,
            live=frozenset(live),
            grace_s=grace_s,
            debs_bytes=debs_bytes,
        )

    def loose(self, live: Iterable[str] = ()) -> Loose:
        """Return what `gc` would delete. Changes nothing and takes no lock.

        Raises:
            ImageError: a named or live image is damaged.
        """
        return find_loose(
            self.blobs,
            self.catalog,
            self.unpacked,
            live=frozenset(live),
            grace_s=DEFAULT_GRACE_S if self.unswept.is_busy() else 0.0,
        )

    def verify(self) -> tuple[Damage, ...]:
        """Hash everything again, and follow every name; return what is wrong."""
        return verify(self.blobs, self.catalog)

    def prepare(self) -> None:
        """Make the store's folders. Idempotent."""
        self.root.state.mkdir(0o700, parents=True, exist_ok=True)
        self.catalog.prepare()
        self.unpacked.prepare()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Make the store's folders, and hold sweeps off until what is made has its name."""
        self.prepare()
        with self.unswept.changing():
            yield

    def _untag(self, keep: Callable[[Tag], bool]) -> tuple[Tag, ...]:
        if not self.catalog.tags():
            return ()  # nor may there be a store
        with self.changing():
            return self.catalog.untag(keep)

    def _finish(self, loaded: str, config: Overrides | None, name: str | None) -> str:
        digest = loaded
        if config is not None and config != Overrides():
            manifest = self.manifest(loaded)
            configuration = Configuration.from_bytes(self.blobs.read(manifest.config.digest))
            merged = override(configuration.config, config)
            manifest, data = seal(manifest, replace(configuration, config=merged))
            self.blobs.put(data)
            digest = self.blobs.put(manifest.to_bytes())
        if name is not None:
            self.tag(name, digest)
        return digest

    def _row(self, tag: Tag) -> StoredImage:
        manifest = self.manifest(tag.digest)
        size = manifest.config.size + sum(layer.size for layer in manifest.layers)
        return StoredImage(tag.name, tag.digest, tag.tagged_at, size)
