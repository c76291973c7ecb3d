"""The layers that the root of a container is made of."""

import os

from runtime.container.config import ContainerConfig
from runtime.image.marker import is_written_back, read_marker
from runtime.root import Root


def ensure_layers(root: Root, config: ContainerConfig) -> None:
    """Unpack again what is missing, or what a crash of the machine may have taken some of.

    Layers that were unpacked in this boot are noted as kept when they have had the time for it.

    To be called before anything looks into a container that does not run: whoever unpacks a layer
    next would take away what is there instead, also from under what runs from it. Idempotent.

    Raises:
        ImageError, NotFoundError: the image is damaged or gone, too.
    """
    folders = [os.path.dirname(layer) for layer in config.layers]
    markers = [read_marker(folder) for folder in folders]
    if None in markers:
        from runtime.image.store import ImageStore

        ImageStore(root).layers(config.image)
        return
    due = [f for f, marker in zip(folders, markers, strict=True) if marker and marker["boot"]]
    if any(map(is_written_back, due)):
        from runtime.image.store import ImageStore

        ImageStore(root).unpacked.settle(map(os.path.basename, due))
