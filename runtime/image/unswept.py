"""Whether a sweep is due, and whether it may take the young as well.

The file ``images/unswept`` is there as long as the store may hold what nothing needs. Whoever
stores something, or drops a name, makes it and holds it (flock, shared) until what was made has
its name. A sweep that gets it for itself knows that nobody is at it: nothing has to be spared for
being young, and the file goes. So whatever dies in the middle, the file says that there is work.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from runtime.errors import ConflictError
from runtime.kernel.flock import flock_within, leave_note, read_note

_WAIT_S = 600.0
"""For a sweep, which may have much to delete."""


class Unswept:
    """The file at *path*, whose folder must exist before anything changes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def is_due(self) -> bool:
        """True if a sweep may find something."""
        return self._path.exists()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold sweeps off for the length of a ``with``; any number may at once.

        Raises:
            ConflictError: a sweep does not come to an end; names who sweeps.
        """
        while True:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if not flock_within(fd, fcntl.LOCK_SH, _WAIT_S):
                    raise ConflictError(
                        f"the image store is being swept by {read_note(fd)}, for {_WAIT_S:g} s"
                    )
                if self._is_at(fd):  # else a sweep has just removed it
                    yield
                    return
            finally:
                os.close(fd)

    def set_due(self) -> None:
        """Say that a sweep may find something; the folder need not be there.

        Raises:
            ConflictError: as for `changing`.
        """
        if self._path.parent.is_dir():
            with self.changing():
                pass

    @contextmanager
    def sweeping(self) -> Iterator[bool]:
        """Yield whether nobody is changing anything, nor will for the length of the ``with``."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            alone = flock_within(fd, fcntl.LOCK_EX, 0) and self._is_at(fd)
            if alone:
                leave_note(fd, f"process {os.getpid()}")
            yield alone
            if alone:
                self._path.unlink()
        finally:
            os.close(fd)

    def is_busy(self) -> bool:
        """Tell whether somebody is changing something; makes nothing."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not flock_within(fd, fcntl.LOCK_EX, 0)
        finally:
            os.close(fd)

    def _is_at(self, fd: int) -> bool:
        with suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(fd), os.stat(self._path))
        return False
