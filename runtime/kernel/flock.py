"""Locks on files that are waited for a while only, and that say who holds them.

flock(2) belongs to the open file, not to the process: whoever inherits the descriptor holds the
lock too, and the kernel gives it back when the last of them is gone, however that happens.
"""

import fcntl
import os
import time
from contextlib import suppress

_FIRST_PAUSE_S = 0.0005
_LONGEST_PAUSE_S = 0.02
_NOTE_BYTES = 200


def flock_within(fd: int, operation: int, timeout_s: float) -> bool:
    """Take the lock, as LOCK_SH or LOCK_EX; return False if it was not got in time.

    It is tried at least once, so with 0 s nobody is waited for.
    """
    deadline = time.monotonic() + timeout_s
    pause = _FIRST_PAUSE_S
    while True:
        try:
            fcntl.flock(fd, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
        else:
            return True
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE_S)


def leave_note(fd: int, text: str) -> None:
    """Say in the locked file who holds it and why, in up to 200 bytes of ASCII.

    Left out where it cannot be written: a full disk keeps nobody from a lock.
    """
    with suppress(OSError):
        os.pwrite(fd, f"{text:<{_NOTE_BYTES}.{_NOTE_BYTES}}\n".encode("ascii", "replace"), 0)


def read_note(fd: int) -> str:
    """Return what the holder of the file's lock, or the last one, left there."""
    note = os.pread(fd, _NOTE_BYTES, 0).decode("ascii", "replace").strip("\0 \n")
    return note or "somebody who left no note"
