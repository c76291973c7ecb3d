"""Filling a fresh file system with what it hides (mount option ``tmpcopyup``).

The tree is of an image, and hostile: everything is opened by name below an open folder, and no
link is followed.
"""

import os
import stat

from runtime.kernel.path import LIST

_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def copy_up(source: int, target: int) -> None:
    """Copy all that is in the folder *source* into the empty folder *target*.

    Owners, modes and times are kept; hard links become files, sockets are left out.

    Raises:
        OSError: *target* is full, or *source* cannot be read.
    """
    for name in os.listdir(source):
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISSOCK(status.st_mode):
            continue
        _copy(source, target, name, status)
        os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            # After the owner: chown(2) takes set-user-id away.
            os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=target)
        times = (status.st_atime_ns, status.st_mtime_ns)
        os.utime(name, ns=times, dir_fd=target, follow_symlinks=False)


def _copy(source: int, target: int, name: str, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
    elif stat.S_ISDIR(status.st_mode):
        os.mkdir(name, 0o700, dir_fd=target)
        below = os.open(name, LIST, dir_fd=source)
        made = os.open(name, LIST, dir_fd=target)
        try:
            copy_up(below, made)
        finally:
            os.close(below)
            os.close(made)
    elif stat.S_ISREG(status.st_mode):
        _copy_file(source, target, name)
    else:
        os.mknod(name, status.st_mode, status.st_rdev, dir_fd=target)


def _copy_file(source: int, target: int, name: str) -> None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    old = os.open(name, flags, dir_fd=source)
    try:
        new = os.open(name, _WRITE, 0o600, dir_fd=target)
        try:
            while os.sendfile(new, old, None, 1 << 20):
                pass
        finally:
            os.close(new)
    finally:
        os.close(old)
