"""Mounts: mount(2) and its newer kin that work on file descriptors.

A detached mount (from `open_tree` with OPEN_TREE_CLONE, or from `fsmount`) belongs to nobody but
its file descriptor and vanishes with it, until `move_mount` attaches it somewhere.

Source: mount(2), umount(2), pivot_root(2), open_tree(2), move_mount(2), fsopen(2), fsconfig(2),
fsmount(2), mount_setattr(2); constants from linux/mount.h and linux/fcntl.h. The newest call
needed is mount_setattr: Linux 5.12.
"""

import os

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
    set_errno,
    sizeof,
)

# mount(2)
MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_SYNCHRONOUS = 0x10
MS_REMOUNT = 0x20
MS_MANDLOCK = 0x40
MS_DIRSYNC = 0x80
MS_NOSYMFOLLOW = 0x100
MS_NOATIME = 0x400
MS_NODIRATIME = 0x800
MS_BIND = 0x1000
MS_REC = 0x4000
MS_SILENT = 0x8000
MS_UNBINDABLE = 0x20000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_SHARED = 0x100000
MS_RELATIME = 0x200000
MS_I_VERSION = 0x800000
MS_STRICTATIME = 0x1000000
MS_LAZYTIME = 0x2000000

# umount2(2)
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

# openat(2) family
AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

# open_tree(2), move_mount(2)
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_EMPTY_PATH = 0x40

# fsopen(2), fsconfig(2), fsmount(2)
FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_SET_FD = 5
FSCONFIG_CMD_CREATE = 6

# mount_setattr(2), fsmount(2)
MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR__ATIME = 0x70
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x100000
MOUNT_ATTR_NOSYMFOLLOW = 0x200000


class mount_attr(Structure):
    """Argument of mount_setattr(2)."""

    _fields_ = (
        ("attr_set", c_uint64),
        ("attr_clr", c_uint64),
        ("propagation", c_uint64),
        ("userns_fd", c_uint64),
    )


_mount = bind("mount", c_char_p, c_char_p, c_char_p, c_ulong, c_char_p)
_umount2 = bind("umount2", c_char_p, c_int)
_pivot_root = bind("pivot_root", c_char_p, c_char_p)
# These have one number on every architecture: syscall tables were unified from 424 on.
_open_tree = bind_number(428, c_long, c_char_p, c_ulong)
_move_mount = bind_number(429, c_long, c_char_p, c_long, c_char_p, c_ulong)
_fsopen = bind_number(430, c_char_p, c_ulong)
_fsconfig = bind_number(431, c_long, c_ulong, c_char_p, c_char_p, c_long)
_fsmount = bind_number(432, c_long, c_ulong, c_ulong)
_mount_setattr = bind_number(442, c_long, c_char_p, c_ulong, c_void_p, c_ulong)


def mount(
    source: str | None, target: str, filesystemtype: str | None, flags: int, data: str | None = None
) -> None:
    """Mount *source* at *target*, or change the mount there; *data* is at most one page."""
    result = _mount(
        None if source is None else os.fsencode(source),
        os.fsencode(target),
        None if filesystemtype is None else os.fsencode(filesystemtype),
        flags,
        None if data is None else os.fsencode(data),
    )
    check(result, "mount", f"{source or filesystemtype or 'none'} -> {target}")


def umount2(target: str, flags: int = 0) -> None:
    """Unmount what is on top at *target*."""
    check(_umount2(os.fsencode(target), flags), "umount2", target)


def pivot_root(new_root: str, put_old: str) -> None:
    """Make *new_root* the root of this mount namespace and hang the old one at *put_old*.

    Both may be ``"."``: the old root then lies on top of the new one, to be unmounted from there
    (see pivot_root(2), NOTES).
    """
    detail = f"{new_root} {put_old}"
    check(_pivot_root(os.fsencode(new_root), os.fsencode(put_old)), "pivot_root", detail)


def open_tree(dirfd: int, path: str, flags: int) -> int:
    """Return a file descriptor of the mount at *path*, of a detached clone with OPEN_TREE_CLONE.

    The descriptor closes on exec.
    """
    result = _open_tree(dirfd, os.fsencode(path), flags | OPEN_TREE_CLOEXEC)
    return check(result, "open_tree", path)


def move_mount(from_fd: int, from_path: str, to_fd: int, to_path: str, flags: int) -> None:
    """Attach a detached mount, or move an attached one."""
    result = _move_mount(from_fd, os.fsencode(from_path), to_fd, os.fsencode(to_path), flags)
    check(result, "move_mount", f"{from_path or from_fd} -> {to_path or to_fd}")


def attach(mount_fd: int, target_fd: int) -> None:
    """Attach the detached mount *mount_fd* on top of what *target_fd* has open."""
    move_mount(mount_fd, "", target_fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)


def fsopen(fsname: str) -> int:
    """Return a context in which a file system of type *fsname* is configured; closes on exec."""
    return check(_fsopen(fsname.encode(), FSOPEN_CLOEXEC), "fsopen", fsname)


def fsconfig(
    fd: int, cmd: int, key: str | None = None, value: str | None = None, aux: int = 0
) -> None:
    """Set one parameter of the context *fd*, or run a command on it.

    The kernel's own words about a refusal are added to the error.
    """
    result = _fsconfig(
        fd,
        cmd,
        None if key is None else key.encode(),
        None if value is None else os.fsencode(value),
        aux,
    )
    if result == -1:
        code = get_errno()
        words = " ".join(filter(None, (key, value, *fs_messages(fd))))
        set_errno(code)
        check(result, "fsconfig", words)


def fs_messages(fd: int) -> list[str]:
    """Return and use up the messages the kernel left in the context *fd*."""
    messages: list[str] = []
    while True:
        try:
            line = os.read(fd, 4096)
        except OSError:  # ENODATA: no more; anything else: none to be had either
            return messages
        messages.append(line.decode(errors="replace").strip())


def fsmount(fd: int, attr_flags: int = 0) -> int:
    """Return a detached mount of the file system created in the context *fd*; closes on exec."""
    return check(_fsmount(fd, FSMOUNT_CLOEXEC, attr_flags), "fsmount")


def mount_setattr(
    dirfd: int,
    path: str,
    flags: int,
    *,
    attr_set: int = 0,
    attr_clr: int = 0,
    propagation: int = 0,
    userns_fd: int = 0,
) -> None:
    """Change the mount at *path*, with AT_RECURSIVE also all below it, or none of them."""
    attr = mount_attr(attr_set, attr_clr, propagation, userns_fd)
    result = _mount_setattr(dirfd, os.fsencode(path), flags, addressof(attr), sizeof(attr))
    check(result, "mount_setattr", path)
