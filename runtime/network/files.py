"""Small JSON files, written whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any

Stamp = tuple[int, int, int]
"""Inode, time and size: another one means another content."""


def write_json(path: Path, value: Any, *, mode: int = 0o600, durable: bool = False) -> Stamp:
    """Replace *path* atomically and return the new file's stamp; its folder must exist.

    *durable*: also survives a loss of power right after. Without it, the old or the new content
    does.
    """
    temporary = f"{path}.{os.getpid()}.tmp"
    data = json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        # The umask is not ours to rely on: the DNS server reads zones as nobody.
        os.fchmod(fd, mode)
        os.write(fd, data)
        if durable:
            os.fsync(fd)
        stamp = _stamp(os.fstat(fd))
    finally:
        os.close(fd)
    os.rename(temporary, path)
    if durable:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return stamp


def stamp_of(path: Path) -> Stamp | None:
    """Return the stamp of the file as it is, or None where there is none."""
    try:
        return _stamp(os.stat(path))
    except FileNotFoundError:
        return None


def read_json(path: Path) -> Any:
    """Return the content, or None where there is no file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return json.loads(os.read(fd, os.fstat(fd).st_size))
    finally:
        os.close(fd)


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_ino, status.st_mtime_ns, status.st_size
