"""Getting over what processes of ours left behind when they were killed.

What carries an owner (containers, networks, leases ...) is left to the next plan. This is about
the rest: files that were never finished, a firewall that was not told, content that no image
needs, and containers that nobody looks after.
"""

from contextlib import suppress

from runtime.container import traffic, volume
from runtime.container.config import list_configs
from runtime.container.containers import Containers
from runtime.container.folders import clear, graveyard
from runtime.container.temporary import unfinished
from runtime.errors import DamagedError, ImageError
from runtime.image.store import ImageStore
from runtime.network import firewall
from runtime.root import Root
from runtime.supervisor import boot


def recover(root: Root) -> None:
    """Clear up; idempotent, and cheap where nothing is left. Safe beside applies at work."""
    boot.enter(str(root.run))
    Containers(root).supervise()
    firewall.finish(root)
    traffic.follow(root)
    for path in unfinished(root):
        path.unlink(missing_ok=True)
    volume.drop_half_copied(root)
    for grave in (*graveyard(root).glob("*"), *volume.half_deleted(root)):
        clear(grave)
    sweep_images(root)


def sweep_images(root: Root) -> None:
    """Delete what no image name and no container needs any more, if there may be anything.

    Where an image, or what tells which are needed, is damaged nothing is deleted: doctor says
    so, and it keeps nobody from work.
    """
    store = ImageStore(root)
    if store.unswept.is_due:
        with suppress(ImageError, DamagedError):
            store.gc(images_in_use(root))


def images_in_use(root: Root) -> frozenset[str]:
    """Return the digests of the images that containers were made from.

    Raises:
        DamagedError: a container's config cannot be read back, so nobody knows.
    """
    return frozenset(config.image for config in list_configs(root) if config.image)
