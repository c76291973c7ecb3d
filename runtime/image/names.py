"""Names of a layer's entries, and what is refused about them before any file is touched.

Source: OCI image-spec, layer.md, "Whiteouts".
"""

import os

from runtime.errors import LayerError

WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
_AUFS = b".wh..wh."


def split_name(path: bytes) -> list[bytes]:
    """Return the parts of *path*, seen from the layer's root; none for the root itself.

    A leading slash means the root of the layer, as in every engine.

    Raises:
        LayerError: a part is ``..``.
    """
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise LayerError(f"{show_name(path)}: entry would leave its root")
    return parts


def split_folder(path: bytes) -> list[bytes]:
    """As `split_name`, of a folder's name.

    Raises:
        LayerError: a part is ``..`` or a whiteout, which nothing can be in.
    """
    parts = split_name(path)
    if any(part.startswith(WHITEOUT) for part in parts):
        raise LayerError(f"{show_name(path)}: entry lies below a whiteout")
    return parts


def whited_out(name: bytes) -> bytes | None:
    """Return the name the whiteout *name* hides; None for bookkeeping of aufs, to be skipped.

    Raises:
        LayerError: it would hide the folder itself or its parent.
    """
    if name.startswith(_AUFS):
        return None
    hidden = name.removeprefix(WHITEOUT)
    if hidden in (b"", b".", b".."):
        raise LayerError(f"{show_name(name)}: whiteout hides no name")
    return hidden


def show_name(path: bytes) -> str:
    """Return *path* for a message: printable, and not endless."""
    return ascii(os.fsdecode(path[:200]))[1:-1]
