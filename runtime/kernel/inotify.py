"""Waiting for files to change.

Source: inotify(7); constants from linux/inotify.h.
"""

import os
import struct
from collections.abc import Iterator

from runtime.kernel.libc import bind, c_char_p, c_int, c_uint, check

IN_MODIFY = 0x2
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_NONBLOCK = 0o4000
IN_CLOEXEC = 0o2000000

_EVENT = struct.Struct("=iIII")
_ROOM = 65536

_inotify_init1 = bind("inotify_init1", c_int)
_inotify_add_watch = bind("inotify_add_watch", c_int, c_char_p, c_uint)


def inotify_init1(flags: int = IN_CLOEXEC) -> int:
    """Return a descriptor to read events from; the caller closes it."""
    return check(_inotify_init1(flags), "inotify_init1")


def inotify_add_watch(fd: int, path: str, mask: int) -> int:
    """Report the events in *mask* of *path* (of a folder: of the files in it) on *fd*."""
    return check(_inotify_add_watch(fd, path.encode(), mask), "inotify_add_watch", path)


def read_events(fd: int) -> Iterator[tuple[int, int, str]]:
    """Yield what has been reported on *fd*, waiting for something: watch, mask, name in it."""
    data = os.read(fd, _ROOM)
    while data:
        watch, mask, _cookie, length = _EVENT.unpack_from(data)
        name = data[_EVENT.size : _EVENT.size + length].rstrip(b"\0")
        yield watch, mask, os.fsdecode(name)
        data = data[_EVENT.size + length :]
