"""Images from archives: what ``docker save`` and OCI tools write, as a tar or a folder.

Three layouts are known: OCI (``oci-layout`` and ``index.json``), docker-archive
(``manifest.json``), and Docker's oldest (``repositories`` and a folder per layer). Where an archive
has several, the OCI one wins: it carries the original manifests and so the original digests.

Every byte is checked against the digest the archive itself names before it counts as stored.
"""

import difflib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from runtime.errors import ImageError
from runtime.image.archivefile import ArchiveFile, open_archive
from runtime.image.blobs import DOCUMENT_LIMIT, BlobStore
from runtime.image.compression import PIECE, Compression, decompress, detect
from runtime.image.digest import VerifiedReader, digest_of, is_digest, is_digest_of
from runtime.image.model import (
    INDEX_TYPES,
    OCI_CONFIG,
    OCI_LAYER,
    REF_NAME,
    Configuration,
    Descriptor,
    Index,
    Manifest,
    Platform,
    parse_document,
    parse_json,
)
from runtime.image.progress import Progress, ignore_progress
from runtime.image.reference import parse_reference
from runtime.record import dataclass

_CONTAINERD_NAME = "io.containerd.image.name"


def load(
    blobs: BlobStore,
    path: Path,
    reference: str | None = None,
    *,
    progress: Progress = ignore_progress,
) -> str:
    """Store one image of the archive at *path*; return the digest of its manifest.

    *reference* is a name in the archive or a digest; it may be left out if there is one image.

    Raises:
        ImageError: *path* is no image archive, damaged, or it is not clear which image is meant.
    """
    with open_archive(path, blobs.folder / "tmp") as archive:
        chosen = choose(images(archive, path), reference, path)
        progress(f"{path}: {chosen.label}")
        return chosen.layout.store(blobs, archive, chosen, progress)


@dataclass(frozen=True, slots=True)
class ArchivedImage:
    """One image an archive holds; *item* is its entry in the archive's own list."""

    layout: "_Oci | _Docker | _Legacy"
    names: tuple[str, ...]
    digest: str
    """Of its manifest in an OCI layout, else of its configuration."""
    item: Any

    @property
    def label(self) -> str:
        """What to call it in a message."""
        return self.names[0] if self.names else self.digest


def images(archive: ArchiveFile, path: Path) -> tuple[ArchivedImage, ...]:
    """Return what *archive*, which is at *path*, holds.

    Raises:
        ImageError: it is no image archive.
    """
    for layout in (_Oci(), _Docker(), _Legacy()):
        if archive.has(layout.mark):
            return layout.images(archive)
    raise ImageError(f"{path}: not an image archive (neither index.json nor manifest.json in it)")


def choose(found: Sequence[ArchivedImage], reference: str | None, path: Path) -> ArchivedImage:
    """Return the image *reference* means; without one, the only image.

    Raises:
        ImageError: none or several; names what is there.
    """
    names = [name for image in found for name in image.names]
    listing = ", ".join(image.label for image in found) or "no image"
    if reference is None:
        if len({image.digest for image in found}) == 1:
            return found[0]
        raise ImageError(f"{path}: holds {listing}; say which one by its reference")
    wanted = _forms(reference)
    for image in found:
        if image.digest == reference or any(wanted & _forms(name) for name in image.names):
            return image
    close = difflib.get_close_matches(reference, names, n=1, cutoff=0.4)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise ImageError(f"{path}: holds {listing}, not {reference}{hint}")


class _Oci:
    mark = "oci-layout"

    def images(self, archive: ArchiveFile) -> tuple[ArchivedImage, ...]:
        index = Index.from_bytes(archive.read("index.json", DOCUMENT_LIMIT))
        return tuple(
            ArchivedImage(self, self._names(item), item.digest, item) for item in index.manifests
        )

    def store(
        self, blobs: BlobStore, archive: ArchiveFile, image: ArchivedImage, progress: Progress
    ) -> str:
        descriptor: Descriptor = image.item
        data = self._document(archive, descriptor)
        while descriptor.media_type in INDEX_TYPES or "manifests" in parse_document(data, "index"):
            chosen = Index.from_bytes(data).for_platform(Platform.host())
            if chosen is None:
                raise ImageError(f"{image.label}: has no image for {Platform.host().architecture}")
            descriptor = chosen
            data = self._document(archive, descriptor)
        manifest = Manifest.from_bytes(data)
        config = self._document(archive, manifest.config)
        Configuration.from_bytes(config)
        for number, layer in enumerate(manifest.layers, 1):
            if not blobs.keep(layer.digest):
                with archive.open(_blob(layer.digest)) as file:
                    reader = VerifiedReader(file, layer.digest, size=layer.size)
                    blobs.put_stream(reader, digest=layer.digest)
            progress(f"layer {number} of {len(manifest.layers)}, {layer.size} bytes")
        blobs.put_as(config, manifest.config.digest)
        blobs.put_as(data, descriptor.digest)
        return descriptor.digest

    def _document(self, archive: ArchiveFile, descriptor: Descriptor) -> bytes:
        data = archive.read(_blob(descriptor.digest), DOCUMENT_LIMIT)
        if not is_digest_of(descriptor.digest, data):
            raise ImageError(f"{descriptor.digest}: damaged in the archive")
        return data

    def _names(self, item: Descriptor) -> tuple[str, ...]:
        names = (item.annotations.get(key) for key in (_CONTAINERD_NAME, REF_NAME))
        return tuple(dict.fromkeys(name for name in names if name))


class _Docker:
    mark = "manifest.json"

    def images(self, archive: ArchiveFile) -> tuple[ArchivedImage, ...]:
        found = []
        for item in _json(archive, self.mark, list):
            if not isinstance(item, dict) or not isinstance(item.get("Config"), str):
                raise ImageError("manifest.json in the archive is malformed")
            config = archive.read(item["Config"], DOCUMENT_LIMIT)
            names = _strings(item, "RepoTags")
            found.append(ArchivedImage(self, names, digest_of(config), item))
        return tuple(found)

    def store(
        self, blobs: BlobStore, archive: ArchiveFile, image: ArchivedImage, progress: Progress
    ) -> str:
        config = archive.read(image.item["Config"], DOCUMENT_LIMIT)
        diff_ids = Configuration.from_bytes(config).diff_ids
        members = _strings(image.item, "Layers")
        if len(members) != len(diff_ids):
            raise ImageError(f"{image.label}: {len(members)} layers but {len(diff_ids)} diff ids")
        layers = []
        for member, diff_id in zip(members, diff_ids, strict=True):
            layers.append(_store_layer(blobs, archive, member, diff_id))
            progress(f"layer {len(layers)} of {len(members)}, {layers[-1].size} bytes")
        manifest = Manifest(Descriptor.of(OCI_CONFIG, config), tuple(layers))
        blobs.put(config)
        return blobs.put(manifest.to_bytes())


class _Legacy:
    """Before Docker 1.10: ``<id>/json`` names its parent, ``<id>/layer.tar`` is the layer."""

    mark = "repositories"

    def images(self, archive: ArchiveFile) -> tuple[ArchivedImage, ...]:
        by_id: dict[str, list[str]] = {}
        for name, tags in _json(archive, self.mark, dict).items():
            if not isinstance(tags, dict):
                raise ImageError("repositories in the archive is malformed")
            for tag, image_id in tags.items():
                by_id.setdefault(str(image_id), []).append(f"{name}:{tag}")
        return tuple(
            ArchivedImage(self, tuple(names), f"sha256:{image_id}", image_id)
            for image_id, names in sorted(by_id.items())
        )

    def store(
        self, blobs: BlobStore, archive: ArchiveFile, image: ArchivedImage, progress: Progress
    ) -> str:
        chain: list[str] = []
        image_id = image.item
        while image_id:
            if image_id in chain:
                raise ImageError(f"{image.label}: its parents go in circles")
            chain.append(image_id)
            image_id = _json(archive, f"{image_id}/json", dict).get("parent")
        layers = []
        for image_id in reversed(chain):
            layers.append(_store_layer(blobs, archive, f"{image_id}/layer.tar", None))
            progress(f"layer {len(layers)} of {len(chain)}, {layers[-1].size} bytes")
        tree = _json(archive, f"{chain[0]}/json", dict)
        for key in ("id", "parent", "layer_id", "Size"):
            tree.pop(key, None)
        tree.setdefault("architecture", Platform.host().architecture)
        tree.setdefault("os", "linux")
        tree["rootfs"] = {"type": "layers", "diff_ids": [layer.digest for layer in layers]}
        config = Configuration.from_bytes(json.dumps(tree).encode()).to_bytes()
        manifest = Manifest(Descriptor.of(OCI_CONFIG, config), tuple(layers))
        blobs.put(config)
        return blobs.put(manifest.to_bytes())


def _store_layer(
    blobs: BlobStore, archive: ArchiveFile, member: str, diff_id: str | None
) -> Descriptor:
    """Store a layer whose uncompressed content must have *diff_id*, if that is known."""
    with archive.open(member) as file:
        compression = detect(file.read(6))
    if compression is Compression.NONE:
        with archive.open(member) as file:
            digest, size = blobs.put_stream(file, digest=diff_id)
        return Descriptor(OCI_LAYER, digest, size)
    if diff_id is None:
        raise ImageError(f"{member}: compressed, which this kind of archive cannot be")
    with archive.open(member) as file:
        # Through once for the diff id; what is stored is the compressed form.
        content = VerifiedReader(decompress(file), diff_id)
        while content.read(PIECE):
            pass
    with archive.open(member) as file:
        digest, size = blobs.put_stream(file)
    return Descriptor(OCI_LAYER + compression.value, digest, size)


def _json(archive: ArchiveFile, member: str, kind: type) -> Any:
    tree = parse_json(archive.read(member, DOCUMENT_LIMIT), f"{member} in the archive")
    if not isinstance(tree, kind):
        raise ImageError(f"{member} in the archive is malformed")
    return tree


def _strings(tree: dict[str, Any], key: str) -> tuple[str, ...]:
    value = tree.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ImageError(f"{key} in the archive is malformed")
    return tuple(value)


def _blob(digest: str) -> str:
    algorithm, _, name = digest.partition(":")
    return f"blobs/{algorithm}/{name}"


def _forms(name: str) -> set[str]:
    """Return *name* as written and in full, so that redis:7 finds docker.io/library/redis:7."""
    forms = {name}
    if not is_digest(name):
        with suppress(ImageError):
            forms.add(str(parse_reference(name)))
    return forms
