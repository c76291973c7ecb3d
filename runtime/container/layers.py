"""The layers that the root of a container is made of."""

import os

from runtime.container.config import ContainerConfig
from runtime.image.marker import is_written_back, read_marker
from runtime.root import Root


def ensure_layers(root: Root, config: ContainerConfig) -> None:
    """Unpack again what is missing, or what a crash of the machine may have taken some of.

    To be called before anything looks into a container that does not run: whoever unpacks a layer
    next would take away what is there instead, also from under what runs from it. Idempotent.

    Raises:
        ImageError, NotFoundError: the image is damaged or gone, too.
    """
    if all(_is_sound(os.path.dirname(layer)) for layer in config.layers):
        return
    from runtime.image.store import ImageStore

    ImageStore(root).layers(config.image)


def _is_sound(folder: str) -> bool:
    """Tell whether nothing is to be done about a layer; else it is noted, once, that it is kept."""
    marker = read_marker(folder)
    return marker is not None and (not marker["boot"] or not is_written_back(folder))
