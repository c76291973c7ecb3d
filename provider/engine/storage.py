"""Small files that are replaced whole: written beside, then renamed over the old one."""

import json
import os
from pathlib import Path
from typing import Any

from provider.model.tree import Tree

FILE_MODE = 0o600
FOLDER_MODE = 0o700


def make_folder(folder: Path) -> None:
    """Make *folder* and what is missing above it, private to root. Idempotent."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)


def write_json(path: Path, tree: Tree) -> None:
    """Replace *path*: atomic for readers, and after a crash the old file or the new one.

    Not durable against power loss until ``sync_file``. The folder must exist.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
    with open(fd, "w", encoding="utf-8") as stream:
        # Not json.dump, which is pure Python and ten times slower.
        stream.write(json.dumps(tree, separators=(",", ":"), ensure_ascii=False))
    os.rename(temporary, path)


def read_json(path: Path) -> Any:
    """Return the content of *path*.

    Raises:
        FileNotFoundError: there is none.
    """
    with open(path, "rb") as stream:
        return json.loads(stream.read())


def sync_file(path: Path) -> None:
    """Make *path* (a file or a folder) survive a power loss; nothing if it is gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
