"""Paths that stay inside a root: openat2(2), and what file system they end on: fstatfs(2).

Source: openat2(2), statfs(2); constants from linux/openat2.h (Linux 5.6) and linux/magic.h.
"""

import errno
import os
import struct

from runtime.kernel.libc import (
    Structure,
    addressof,
    bind,
    bind_number,
    c_char_p,
    c_int,
    c_long,
    c_uint64,
    c_ulong,
    c_void_p,
    check,
    get_errno,
    room,
    sizeof,
)

RESOLVE_NO_MAGICLINKS = 0x2
RESOLVE_NO_SYMLINKS = 0x4
RESOLVE_IN_ROOT = 0x10

MOST_LINKS = 40
"""So many the kernel follows, path_resolution(7)."""

LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
"""Of open(2): what has this name itself; opening does nothing to it."""
LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""Of open(2): a folder to be listed, not one that a link leads to."""

PROC_SUPER_MAGIC = 0x9FA0
SYSFS_MAGIC = 0x62656572
CGROUP_SUPER_MAGIC = 0x27E0EB
CGROUP2_SUPER_MAGIC = 0x63677270

_MOST_TRIES = 100
_STATFS_BYTES = 256
"""At least: struct statfs is 120 bytes on 64-bit machines."""


class open_how(Structure):
    """Argument of openat2(2)."""

    _fields_ = (("flags", c_uint64), ("mode", c_uint64), ("resolve", c_uint64))


# The same number on every architecture.
_openat2 = bind_number(437, c_long, c_char_p, c_void_p, c_ulong)
_fstatfs = bind("fstatfs", c_int, c_char_p)


def openat2(dirfd: int, path: str, flags: int, *, mode: int = 0, resolve: int = 0) -> int:
    """Open *path* relative to *dirfd* as *resolve* allows; the descriptor closes on exec."""
    how = open_how(flags | os.O_CLOEXEC, mode, resolve)
    address, size = addressof(how), sizeof(how)
    result = -1
    for _ in range(_MOST_TRIES):
        result = _openat2(dirfd, os.fsencode(path), address, size)
        # A ".." on the way, and somebody renames or mounts anywhere: not known to be inside.
        if result != -1 or get_errno() != errno.EAGAIN:
            break
    return check(result, "openat2", path)


def filesystem_magic(fd: int) -> int:
    """Return what kind of file system *fd* is on, by its number in linux/magic.h."""
    buffer = room(_STATFS_BYTES)
    check(_fstatfs(fd, buffer), "fstatfs")
    magic: int = struct.unpack_from("l", buffer.raw)[0]
    return magic
