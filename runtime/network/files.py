"""Small JSON files, written whole or not at all."""

import json
import os
from contextlib import suppress
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import Any

from runtime.documents import parse_state
from runtime.kernel.replace import replace_file

Stamp = tuple[int, int, int]
"""Inode, time and size: another one means another content."""


def write_json(
    path: Path, value: Any, *, mode: int = 0o600, safe: bool = False, durable: bool = False
) -> Stamp:
    """Replace *path* by *value* as JSON; see `write_data`."""
    data = json.dumps(value, separators=(",", ":")).encode()
    return write_data(path, data, mode=mode, safe=safe, durable=durable)


def write_data(
    path: Path, data: bytes, *, mode: int = 0o600, safe: bool = False, durable: bool = False
) -> Stamp:
    """Replace *path*, see replace_file, and return the new file's stamp.

    On a full disk one that does not grow is written over the old one, so that what is removed to
    make room can be: readers may then see half of it, and so may who comes after a crash.
    """
    try:
        return _stamp(replace_file(path, data, mode=mode, safe=safe, durable=durable))
    except OSError as error:
        if error.errno not in (ENOSPC, EDQUOT) or not _overwrite(path, data):
            raise
    return _stamp(os.stat(path))


def write_note(path: Path, value: Any) -> None:
    """Replace a file that only saves work, see `read_note`; left out where it cannot be written."""
    if path.parent.is_dir():
        with suppress(OSError):
            write_json(path, value)


def stamp_of(path: Path) -> Stamp | None:
    """Return the stamp of the file as it is, or None where there is none."""
    try:
        return _stamp(os.stat(path))
    except FileNotFoundError:
        return None


def read_json(path: Path) -> Any:
    """Return the content, or None where there is no file.

    Raises:
        DamagedError: it is empty, or no JSON.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return parse_state(path, os.read(fd, os.fstat(fd).st_size))
    finally:
        os.close(fd)


def _overwrite(path: Path, data: bytes) -> bool:
    """Put *data* and blanks into the room the file has; False if it has too little."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        room = os.fstat(fd).st_size
        return len(data) <= room and os.pwrite(fd, data.ljust(room), 0) == room
    finally:
        os.close(fd)


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_ino, status.st_mtime_ns, status.st_size
