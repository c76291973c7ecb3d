"""The file beside an unpacked layer, which says what it is and whether it has survived.

Apart from `unpack`, as whoever starts a container only has to look.
"""

import os
import time
from typing import Any

from runtime.documents import read_note
from runtime.kernel.procfs import boot_id

NAME = "layer.json"
# Raise it together with the folders' names: containers may still run from the old ones.
VERSION = 1
# Dirty pages are written after 30 s (vm.dirty_expire_centisecs); be generous.
_WRITTEN_BACK_S = 300.0


def read_marker(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Return what the marker of a layer *folder* says, but its version.

    None: there is none, or of another version; or the machine was booted anew since the layer was
    unpacked, before it was surely on the disk, and a crash may have taken some of it.
    """
    tree = read_note(os.path.join(folder, NAME))
    if not isinstance(tree, dict) or tree.pop("version", None) != VERSION:
        return None
    return tree if tree.get("boot") in ("", boot_id()) else None


def is_written_back(folder: str | os.PathLike[str]) -> bool:
    """Tell whether the kernel has had time to write a layer to the disk."""
    return time.time() - os.stat(os.path.join(folder, NAME)).st_mtime > _WRITTEN_BACK_S
