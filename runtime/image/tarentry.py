"""One member of a tar, as both the reader and the writer see it."""

import enum
from typing import NamedTuple


class Kind(enum.Enum):
    """What a member is."""

    FILE = "file"
    HARDLINK = "hardlink"
    SYMLINK = "symlink"
    CHARACTER = "character device"
    BLOCK = "block device"
    FOLDER = "folder"
    FIFO = "fifo"


class Entry(NamedTuple):
    """One member; a NamedTuple because making 100,000 of them must be cheap.

    Names are the bytes in the archive, nothing resolved or checked.
    """

    path: bytes
    kind: Kind = Kind.FILE
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    size: int = 0
    """Bytes of the file, holes included."""
    mtime_ns: int = 0
    link: bytes = b""
    major: int = 0
    minor: int = 0
    xattrs: tuple[tuple[str, bytes], ...] = ()
    sparse: tuple[tuple[int, int], ...] | None = None
    """Offset and length of each piece that is stored; None: the file is stored whole."""
