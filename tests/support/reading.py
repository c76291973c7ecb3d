"""Reading what a program has written, in however many pieces it comes."""

import os
import select

from tests.support.waiting import SLOWNESS


def read_lines(fd: int, count: int = 1) -> bytes:
    """Return the next *count* lines of a pipe or terminal."""
    said = b""
    while said.count(b"\n") < count:
        assert select.select([fd], [], [], 20 * SLOWNESS)[0], said
        said += os.read(fd, 1)
    return said
