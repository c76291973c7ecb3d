"""Where what belongs to one container is kept."""

import shutil
from contextlib import suppress
from pathlib import Path

from runtime.root import Root


def state_folder(root: Root, container_id: str) -> Path:
    """Return where the container's lasting state is."""
    return root.state / "containers" / container_id


def is_whole(root: Root, container_id: str) -> bool:
    """Tell whether what the container's root is made of is there; else nobody can start it."""
    folder = state_folder(root, container_id)
    return all((folder / name).is_dir() for name in ("upper", "work"))


def run_folder(root: Root, container_id: str) -> Path:
    """Return where the container's state of this boot is."""
    return root.run / "containers" / container_id


def netns_path(root: Root, container_id: str) -> Path:
    """Return where the container's network namespace is pinned."""
    return root.run / "netns" / container_id


def private_folder(folder: Path) -> None:
    """Make *folder* and what is missing above it for root alone. Idempotent."""
    if not folder.is_dir():
        private_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def log_folder(root: Root, container_id: str) -> Path:
    """Return where the container's log is."""
    return state_folder(root, container_id) / "log"


def config_file(root: Root, container_id: str) -> Path:
    """Return where the container's config is; a container is what has one."""
    return state_folder(root, container_id) / "config.json"


def graveyard(root: Root) -> Path:
    """Return where folders of removed containers wait for their deletion, which takes a while."""
    return root.state / "removed"


def bury(folder: Path, grave: Path) -> None:
    """Delete *folder* and all that is in it; absent is fine.

    It leaves its place for *grave*, on the same file system, in one step: killed in the middle,
    it is there whole or not at all, and ``clear(grave)`` is what is left to do.
    """
    private_folder(grave.parent)
    clear(grave)
    with suppress(FileNotFoundError):
        folder.rename(grave)
    clear(grave)


def clear(grave: Path) -> None:
    """Delete what was buried there; absent is fine."""
    while grave.exists():
        # Somebody else may be at it, too.
        with suppress(FileNotFoundError):
            shutil.rmtree(grave)
