"""The file beside an unpacked layer, which says what it is and whether it has survived.

Apart from `unpack`, as whoever starts a container only has to look.
"""

import json
import os
from typing import Any

from runtime.kernel.procfs import boot_id

NAME = "layer.json"
# Raise it together with the folders' names: containers may still run from the old ones.
VERSION = 1


def read_marker(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Return what the marker of a layer *folder* says, but its version.

    None: there is none, or of another version; or a crash of the machine, since which it was booted
    anew, may have taken some of the layer.
    """
    try:
        with open(os.path.join(folder, NAME), "rb") as file:
            tree: dict[str, Any] = json.loads(file.read())
    except (FileNotFoundError, ValueError):
        return None
    if tree.pop("version", None) != VERSION:
        return None
    return tree if tree["boot"] in ("", boot_id()) else None
