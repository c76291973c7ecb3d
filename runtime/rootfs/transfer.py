"""Copies files and folders between trees of which one is a stranger's.

Every name is opened in a folder held open, and never through a link: whoever renames and links
in that tree meanwhile leads nothing out of it.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from runtime.record import dataclass

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PIECE = 1 << 24
_SET_ID = stat.S_ISUID | stat.S_ISGID


@dataclass(frozen=True, slots=True)
class How:
    """What a copy keeps. Modes and times are kept in any case."""

    owner: tuple[int, int] | None
    """Whose everything is; None: whose it was."""
    set_id: bool
    """Whether set-user-id and set-group-id bits are kept."""
    devices: bool
    """Whether device nodes are copied."""
    left_out: Callable[[str], None]
    """Told of what was not copied, and why."""


def copy(source: int, name: str, target: int, new_name: str, how: How) -> None:
    """Copy what is called *name* in the folder *source* to *new_name* in the folder *target*.

    A folder that is there is filled, and keeps its mode and owner; a file or link that is there
    is replaced at once, and what the link leads to is left alone. Not atomic as a whole.

    Raises:
        OSError: as of the calls; ENOTDIR or EISDIR: a folder and a file are in each other's place.
    """
    _copy(source, name, target, new_name, how, new_name)


def copy_members(source: int, target: int, how: How) -> None:
    """Copy what is in the folder *source* into the folder *target*."""
    for name in sorted(os.listdir(source)):
        _copy(source, name, target, name, how, name)


def _copy(source: int, name: str, target: int, new_name: str, how: How, path: str) -> None:
    found = os.stat(name, dir_fd=source, follow_symlinks=False)
    kind = stat.S_IFMT(found.st_mode)
    if kind == stat.S_IFDIR:
        _copy_folder(source, name, target, new_name, how, path)
    elif kind == stat.S_IFREG:
        _copy_file(source, name, target, new_name, how)
    elif kind == stat.S_IFLNK:
        words = os.readlink(name, dir_fd=source)
        with _beside(target, new_name) as fresh:
            os.symlink(words, fresh, dir_fd=target)
            _own(fresh, target, found, how)
    elif kind == stat.S_IFIFO or (kind in (stat.S_IFCHR, stat.S_IFBLK) and how.devices):
        with _beside(target, new_name) as fresh:
            os.mknod(fresh, kind | 0o600, found.st_rdev, dir_fd=target)
            _own(fresh, target, found, how)
            os.chmod(fresh, _mode(found, how), dir_fd=target)
    else:
        how.left_out(f"{path} is a {'socket' if kind == stat.S_IFSOCK else 'device'}")


def _copy_folder(source: int, name: str, target: int, new_name: str, how: How, path: str) -> None:
    here = os.open(name, _FOLDER, dir_fd=source)
    try:
        made = True
        try:
            os.mkdir(new_name, 0o700, dir_fd=target)
        except FileExistsError:
            made = False
        there = os.open(new_name, _FOLDER, dir_fd=target)
        try:
            for member in sorted(os.listdir(here)):
                _copy(here, member, there, member, how, f"{path}/{member}")
            if made:
                _keep(there, os.fstat(here), how)
        finally:
            os.close(there)
    finally:
        os.close(here)


def _copy_file(source: int, name: str, target: int, new_name: str, how: How) -> None:
    here = os.open(name, _FILE, dir_fd=source)
    try:
        with _beside(target, new_name) as fresh:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            there = os.open(fresh, flags, 0o600, dir_fd=target)
            try:
                while os.sendfile(there, here, None, _PIECE):
                    pass
                _keep(there, os.fstat(here), how)
            finally:
                os.close(there)
    finally:
        os.close(here)


@contextmanager
def _beside(target: int, name: str) -> Iterator[str]:
    """Yield a fresh name in *target*; what is made there then takes the place of *name*.

    Raises:
        IsADirectoryError: there is a folder called *name*.
    """
    fresh = f".{name[:200]}.{os.getpid()}"
    try:
        yield fresh
        try:
            os.rename(fresh, name, src_dir_fd=target, dst_dir_fd=target)
        except OSError as error:
            if error.errno != errno.EBUSY:  # a file that is mounted there
                raise
            raise OSError(errno.EBUSY, "it is mounted into the container", name) from error
    finally:
        with suppress(FileNotFoundError):
            os.unlink(fresh, dir_fd=target)


def _keep(copied: int, found: os.stat_result, how: How) -> None:
    os.fchown(copied, *(how.owner or (found.st_uid, found.st_gid)))
    os.fchmod(copied, _mode(found, how))
    os.utime(copied, ns=(found.st_atime_ns, found.st_mtime_ns))


def _own(name: str, target: int, found: os.stat_result, how: How) -> None:
    uid, gid = how.owner or (found.st_uid, found.st_gid)
    os.chown(name, uid, gid, dir_fd=target, follow_symlinks=False)


def _mode(found: os.stat_result, how: How) -> int:
    mode = stat.S_IMODE(found.st_mode)
    return mode if how.set_id else mode & ~_SET_ID
