"""Files that were never finished: where they can lie, and whether their writer still lives.

Whoever replaces a file writes beside it, under a name that ends in its own process id
(``.name.123`` or ``name.<random>.123.tmp``), and renames. What has such a name, and no such
process, is left from one that was killed. The image store and the cache of manifests have
temporaries of their own, and clear them up themselves.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from runtime.root import Root

_NAME = re.compile(r"\..+\.(?P<hidden>\d+)|.+\.(?P<plain>\d+)\.tmp")


def unfinished(root: Root) -> Iterator[Path]:
    """Yield the half-written files of dead writers; changes nothing."""
    for folder in _folders(root):
        for name in _names(folder):
            if not name.startswith(".") and not name.endswith(".tmp"):
                continue  # most are neither, and matching takes longer
            match = _NAME.fullmatch(name)
            if not match or os.path.exists(f"/proc/{match['hidden'] or match['plain']}"):
                continue
            if os.path.exists(folder / name):  # still, now that nobody can finish it any more
                yield folder / name


def _folders(root: Root) -> Iterator[Path]:
    yield from (root.state, root.run, root.run / "dns")
    yield from (root.state / "networks", root.state / "networks" / "by-id")
    for project in _names(root.state / "projects"):
        folder = root.state / "projects" / project
        yield from (folder, folder / "resources", folder / "revisions")
    for parent in (
        root.state / "volumes",
        root.state / "containers",
        root.run / "containers",
        root.state / "layers",
    ):
        for name in _names(parent):
            yield parent / name


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
