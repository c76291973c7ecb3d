"""The layers that the root of a container is made of."""

import os

from runtime.container.config import ContainerConfig
from runtime.image.marker import read_marker
from runtime.root import Root


def ensure_layers(root: Root, config: ContainerConfig) -> None:
    """Unpack again what is missing, or what a crash of the machine may have taken some of.

    To be called before anything looks into a container that does not run: whoever unpacks a layer
    next would take away what is there instead, also from under what runs from it. Idempotent.

    Raises:
        ImageError, NotFoundError: the image is damaged or gone, too.
    """
    if all(read_marker(os.path.dirname(layer)) is not None for layer in config.layers):
        return
    from runtime.image.store import ImageStore

    ImageStore(root).layers(config.image)
