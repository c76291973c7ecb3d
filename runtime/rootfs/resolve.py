"""Paths inside a root that somebody else filled.

An image may hold any symbolic link, ``/etc -> /../../host`` included. Everything here resolves
with openat2's RESOLVE_IN_ROOT, so that absolute links and ``..`` end at the root, and without
magic links, so that ``/proc/self/fd/7`` is no way out either (CVE-2024-21626).

Folders and files that are missing are made component by component, as links lead; a dangling
link's target is made, inside the root.
"""

import contextlib
import errno
import os
import stat

from runtime.errors import KernelError
from runtime.kernel.path import MOST_LINKS, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2

_INSIDE = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS


def open_in_root(root_fd: int, path: str, flags: int = os.O_PATH, *, mode: int = 0) -> int:
    """Return *path* opened inside the root; the caller closes it.

    Raises:
        KernelError: ENOENT and so on; ELOOP for a magic link on the way.
    """
    return openat2(root_fd, path or "/", flags, mode=mode, resolve=_INSIDE)


def open_folder(root_fd: int, path: str, *, mode: int = 0o755) -> int:
    """Return the folder at *path* opened with O_PATH; it and its parents are made if missing.

    *mode* goes through the umask. Idempotent.

    Raises:
        KernelError: ENOTDIR: something on the way is not a folder.
    """
    try:
        return open_in_root(root_fd, path, os.O_PATH | os.O_DIRECTORY)
    except KernelError as error:
        if error.errno != errno.ENOENT:
            raise
    return _open(root_fd, _make_folders(root_fd, path, mode), os.O_PATH | os.O_DIRECTORY)


def open_file(root_fd: int, path: str, *, mode: int = 0o644) -> int:
    """Return the file at *path* opened with O_PATH; an empty one is made if missing.

    *mode* goes through the umask. Idempotent. What is there may be anything but missing, for
    example a socket; the caller judges.
    """
    try:
        return open_in_root(root_fd, path, os.O_PATH)
    except KernelError as error:
        if error.errno != errno.ENOENT:
            raise
    place = _make_folders(root_fd, os.path.dirname(path.rstrip("/")), 0o755)
    place.append(os.path.basename(path.rstrip("/")))
    links = 0
    while (target := _link_text(root_fd, place)) is not None:
        links += 1
        if links > MOST_LINKS:
            raise KernelError(errno.ELOOP, "openat2", path)
        joined = _joined(place, target)
        place = _make_folders(root_fd, os.path.dirname(joined), 0o755)
        place.append(os.path.basename(joined))
    parent = _open(root_fd, place[:-1], os.O_PATH | os.O_DIRECTORY)
    try:
        flags = os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW
        os.close(openat2(parent, place[-1], flags, mode=mode))
    finally:
        os.close(parent)
    return _open(root_fd, place, os.O_PATH)


def _make_folders(root_fd: int, path: str, mode: int) -> list[str]:
    """Make *path* and return its names with every link resolved."""
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
        target = _link_text(root_fd, [*done, name])
        if target is not None:
            links += 1
            if links > MOST_LINKS:
                raise KernelError(errno.ELOOP, "openat2", path)
            if target.startswith("/"):
                done = []
            waiting += target.split("/")[::-1]
            continue
        parent = _open(root_fd, done, os.O_PATH | os.O_DIRECTORY)
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, mode, dir_fd=parent)
        finally:
            os.close(parent)
        done.append(name)
    return done


def _link_text(root_fd: int, names: list[str]) -> str | None:
    """Return where the link at *names* points, or None if it is missing or no link."""
    try:
        fd = _open(root_fd, names, os.O_PATH | os.O_NOFOLLOW)
    except KernelError as error:
        if error.errno != errno.ENOENT:
            raise
        return None
    try:
        return os.readlink("", dir_fd=fd) if stat.S_ISLNK(os.fstat(fd).st_mode) else None
    finally:
        os.close(fd)


def _joined(place: list[str], target: str) -> str:
    return target if target.startswith("/") else "/".join((*place[:-1], target))


def _open(root_fd: int, names: list[str], flags: int) -> int:
    return open_in_root(root_fd, "/".join(names), flags)
