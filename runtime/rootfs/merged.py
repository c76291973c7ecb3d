"""Files of an image as a container would see them, without mounting anything.

Layer folders are looked through from the top: a whiteout (character device 0:0) hides what is
below it, an opaque folder hides the folders below it, and symbolic links are followed inside the
merged root only. No path component is ever opened through a link of the host's file system.

Source: Documentation/filesystems/overlayfs.rst.
"""

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import ExitStack

from runtime.errors import ContainerError
from runtime.kernel.overlayfs import opaque_xattr
from runtime.kernel.path import MOST_LINKS

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def read_merged(layers: Sequence[str], path: str, *, most_bytes: int = 1 << 20) -> bytes | None:
    """Return the content of the regular file at *path* in *layers*, or None if there is none.

    *layers* are folders, lowest first; a root folder alone is one layer.

    Raises:
        ContainerError: what is there is no regular file, is longer than *most_bytes*, or its
            links form a loop.
    """
    waiting = path.split("/")[::-1]
    done: list[str] = []
    links = 0
    while waiting:
        name = waiting.pop()
        if name in ("", "."):
            continue
        if name == "..":
            del done[-1:]
            continue
        with ExitStack() as opened:
            found = _lookup(layers, (*done, name), opened)
            if found is None:
                return None
            folder, status = found
            if stat.S_ISLNK(status.st_mode):
                links += 1
                if links > MOST_LINKS:
                    raise ContainerError(f"{path}: its symbolic links form a loop")
                target = os.readlink(name, dir_fd=folder)
                if target.startswith("/"):
                    done = []
                waiting += target.split("/")[::-1]
            elif stat.S_ISDIR(status.st_mode):
                done.append(name)
            elif any(part not in ("", ".") for part in waiting):
                return None
            elif not stat.S_ISREG(status.st_mode):  # a device may act on being opened
                raise ContainerError(f"{path}: is no regular file")
            else:
                return _read(folder, name, path, most_bytes)
    raise ContainerError(f"{path}: is a folder")


def _lookup(
    layers: Sequence[str], names: Sequence[str], opened: ExitStack
) -> tuple[int, os.stat_result] | None:
    """Return the topmost thing called *names*: its folder's descriptor and its status."""

    def keep(fd: int) -> int:
        opened.callback(os.close, fd)
        return fd

    folders = [keep(os.open(layer, _FOLDER & ~os.O_NOFOLLOW)) for layer in reversed(layers)]
    for name in names[:-1]:
        below = []
        for folder in folders:
            status = _status(folder, name)
            if status is None:
                continue
            if not stat.S_ISDIR(status.st_mode):
                break
            fd = keep(os.open(name, _FOLDER, dir_fd=folder))
            below.append(fd)
            if _is_opaque(fd):
                break
        folders = below
    for folder in folders:
        status = _status(folder, names[-1])
        if status is not None:
            hidden = stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
            return None if hidden else (folder, status)
    return None


def _status(folder: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENAMETOOLONG):
            raise
        return None


def _is_opaque(fd: int) -> bool:
    try:
        return os.getxattr(f"/proc/self/fd/{fd}", opaque_xattr()) == b"y"
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
            raise
        return False


def _read(folder: int, name: str, path: str, most_bytes: int) -> bytes:
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise ContainerError(f"{path}: is no regular file")
        if status.st_size > most_bytes:
            raise ContainerError(f"{path}: {status.st_size} bytes are too many")
        return file.read(most_bytes)
