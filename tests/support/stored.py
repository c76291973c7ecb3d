"""Small images in a store."""

from __future__ import annotations

from runtime.image.model import (
    OCI_CONFIG,
    OCI_LAYER,
    Configuration,
    Descriptor,
    ImageConfig,
    Manifest,
    Platform,
)
from runtime.image.store import ImageStore
from tests.support.tarball import END, file


def put_image(store: ImageStore, content: bytes, *, config: ImageConfig | None = None) -> str:
    """Store an image of one layer with one file."""
    layer = file(b"content", content) + END
    digest = store.blobs.put(layer)
    document = Configuration(Platform.host(), config or ImageConfig(), (digest,)).to_bytes()
    store.blobs.put(document)
    manifest = Manifest(
        Descriptor.of(OCI_CONFIG, document), (Descriptor(OCI_LAYER, digest, len(layer)),)
    )
    return store.blobs.put(manifest.to_bytes())


def blobs_of(store: ImageStore) -> set[str]:
    return set(store.blobs.digests())
