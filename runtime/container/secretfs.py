"""Where secrets wait for containers: one tmpfs per world, mounted while there are any.

``run/secrets/<container id>/...`` holds what one container is given, and goes with it. Nothing
here ever touches a disk; after a reboot it is gone and has to be handed over again.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from runtime.kernel.mount import MNT_DETACH, MS_NODEV, MS_NOEXEC, MS_NOSUID, mount, umount2
from runtime.root import Root

_SIZE = "16m"


def folder(root: Root, container_id: str) -> Path:
    """Return the container's folder, which may not exist."""
    return root.run / "secrets" / container_id


def make_folder(root: Root, container_id: str) -> Path:
    """Return the container's folder, made, on the tmpfs, mounted. Idempotent.

    Callers hold the host lock: two at once could mount twice.
    """
    top = root.run / "secrets"
    top.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.path.ismount(top):
        flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
        mount("bayplan-secrets", str(top), "tmpfs", flags, f"mode=0700,size={_SIZE}")
    made = folder(root, container_id)
    made.mkdir(mode=0o700, exist_ok=True)
    return made


def remove_folder(root: Root, container_id: str) -> None:
    """Forget what the container was given; the last one takes the tmpfs with it. Idempotent.

    Callers hold the host lock.
    """
    with suppress(FileNotFoundError):
        shutil.rmtree(folder(root, container_id))
    top = root.run / "secrets"
    if os.path.ismount(top) and not any(top.iterdir()):
        umount2(str(top), MNT_DETACH)
