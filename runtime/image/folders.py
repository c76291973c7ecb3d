"""Finding folders below one root without ever leaving it.

A layer may contain symbolic links and then names that pass through them. Such a name is followed
as a container would see it: ``/`` and ``..`` end at the root. Every step opens one component with
O_NOFOLLOW relative to the folder before, and links are followed by reading them, so the kernel
never resolves a name on its own. Nobody else writes below the root meanwhile (it is a fresh folder
in a 0700 one), which is why a walk of small steps is as good here as openat2(2) with
RESOLVE_IN_ROOT, and it can also make the folders that are missing.
"""

import os
import stat
from collections.abc import Callable

from runtime.errors import LayerError
from runtime.image.names import WHITEOUT, show_name, split_folder

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LINKS = 40  # as the kernel's MAXSYMLINKS
_KEPT = 128


class Folders:
    """Descriptors of folders below *root*, a few of them kept open; close it when done.

    *make* is called with a parent's descriptor, a name and the full path where a folder is missing
    (or a whiteout stands in its place) and makes it.
    """

    def __init__(self, root: int, make: Callable[[int, bytes, bytes], None], *, depth: int) -> None:
        self._root = root
        self._make = make
        self._depth = depth
        self._kept: dict[bytes, tuple[int, bytes]] = {b"": (root, b"")}

    def close(self) -> None:
        """Close everything but the root. Idempotent."""
        self.forget()

    def forget(self) -> None:
        """Close what is kept: a folder was removed or replaced, so names may mean others now."""
        for fd, _ in self._kept.values():
            if fd != self._root:
                os.close(fd)
        self._kept = {b"": (self._root, b"")}

    def find(self, name: bytes) -> tuple[int, bytes]:
        """Return the folder *name* as (descriptor, path without links).

        The descriptor is good until the next but one call, or `forget`.

        Raises:
            LayerError: *name* leaves the root, passes through a file, or is too deep.
        """
        hit = self._kept.pop(name, None)
        if hit is None:
            hit = self._look_up(name)
            if len(self._kept) > _KEPT:
                oldest = next(key for key, (fd, _) in self._kept.items() if fd != self._root)
                os.close(self._kept.pop(oldest)[0])
        self._kept[name] = hit  # at the end: most recently used
        return hit

    def _look_up(self, name: bytes) -> tuple[int, bytes]:
        above, slash, last = name.rpartition(b"/")
        plain = last not in (b"", b".", b"..") and not last.startswith(WHITEOUT)
        if slash and plain and above in self._kept:
            fd, path = self._kept[above]
            return self._walk(fd, path.split(b"/") if path else [], [last], name)
        return self._walk(self._root, [], split_folder(name)[::-1], name)

    def _walk(
        self, start: int, done: list[bytes], todo: list[bytes], name: bytes
    ) -> tuple[int, bytes]:
        """Go from folder *start*, whose parts are *done*, through *todo*, last part first."""
        links = 0
        fd = os.dup(start)
        try:
            while todo:
                part = todo.pop()
                if part == b"..":
                    # Only from a link. The folder above is inside too, unless this is the root.
                    fd = _replace(fd, os.open(b"..", FOLDER_FLAGS, dir_fd=fd)) if done else fd
                    del done[-1:]
                    continue
                target = self._step(fd, part, done, name)
                if target is None:
                    fd = _replace(fd, os.open(part, FOLDER_FLAGS, dir_fd=fd))
                    done.append(part)
                    if len(done) > self._depth:
                        raise LayerError(f"{show_name(name)}: more than {self._depth} folders deep")
                    continue
                links += 1
                if links > _LINKS:
                    raise LayerError(f"{show_name(name)}: too many symbolic links")
                todo += [item for item in target.split(b"/")[::-1] if item not in (b"", b".")]
                if target.startswith(b"/"):
                    fd = _replace(fd, os.dup(self._root))
                    done.clear()
        except BaseException:
            os.close(fd)
            raise
        return fd, b"/".join(done)

    def _step(self, fd: int, part: bytes, done: list[bytes], name: bytes) -> bytes | None:
        """Make sure *part* is a folder in *fd* and return None, or the target if it is a link."""
        try:
            status = os.stat(part, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            status = None
        if status is not None and stat.S_ISDIR(status.st_mode):
            return None
        if status is not None and stat.S_ISLNK(status.st_mode):
            return os.readlink(part, dir_fd=fd)
        if status is None or is_whiteout(status):
            self._make(fd, part, b"/".join((*done, part)))
            return None
        raise LayerError(f"{show_name(name)}: {show_name(part)} is a file, not a folder")


def is_whiteout(status: os.stat_result) -> bool:
    """Say whether this is how overlayfs marks a deleted name: a character device 0:0."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _replace(old: int, new: int) -> int:
    os.close(old)
    return new
