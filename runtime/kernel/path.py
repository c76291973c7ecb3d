"""Paths that stay inside a root: openat2(2).

Source: openat2(2); constants from linux/openat2.h. Linux 5.6.
"""

import ctypes
import errno
import os

from runtime.kernel.libc import bind_number, c_char_p, c_long, c_uint64, c_ulong, c_void_p, check

RESOLVE_NO_MAGICLINKS = 0x2
RESOLVE_NO_SYMLINKS = 0x4
RESOLVE_IN_ROOT = 0x10

_MOST_TRIES = 100


class open_how(ctypes.Structure):
    """Argument of openat2(2)."""

    _fields_ = (("flags", c_uint64), ("mode", c_uint64), ("resolve", c_uint64))


# The same number on every architecture.
_openat2 = bind_number(437, c_long, c_char_p, c_void_p, c_ulong)


def openat2(dirfd: int, path: str, flags: int, *, mode: int = 0, resolve: int = 0) -> int:
    """Open *path* relative to *dirfd* as *resolve* allows; the descriptor closes on exec."""
    how = open_how(flags | os.O_CLOEXEC, mode, resolve)
    address, size = ctypes.addressof(how), ctypes.sizeof(how)
    result = -1
    for _ in range(_MOST_TRIES):
        result = _openat2(dirfd, os.fsencode(path), address, size)
        # A ".." on the way, and somebody renames or mounts anywhere: not known to be inside.
        if result != -1 or ctypes.get_errno() != errno.EAGAIN:
            break
    return check(result, "openat2", path)
