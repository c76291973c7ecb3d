"""Operations inside the container's root, from the pivot on; see `runtime.kernel.program`.

Every path is one that a hostile image may have prepared: it is opened inside the root first,
without magic links, and what is done is done to that descriptor.
"""

import errno
import os
import stat
from collections.abc import Callable

from runtime.errors import KernelError, LaunchError
from runtime.kernel import mount as kernel
from runtime.kernel.path import (
    PROC_SUPER_MAGIC,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_SYMLINKS,
    SYSFS_MAGIC,
    filesystem_magic,
    openat2,
)
from runtime.kernel.terminal import open_terminal, resize_terminal
from runtime.rootfs.copy_up import copy_up
from runtime.rootfs.resolve import open_file, open_folder, open_in_root
from runtime.supervisor.child import Child

_NULL = os.makedev(1, 3)
_OF_THE_KERNEL = {PROC_SUPER_MAGIC: "/proc", SYSFS_MAGIC: "/sys"}
_NO_LINKS = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS
_CLONE = kernel.OPEN_TREE_CLONE | kernel.AT_EMPTY_PATH
_MASK_FLAGS = kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC


def mount(
    child: Child,
    source: str,
    target: str,
    fstype: str,
    flags: int,
    data: str | None,
    copies: bool = False,
) -> None:
    """Mount a file system of the kernel's, which begins with what it hides if it *copies*."""
    try:
        if fstype in ("proc", "sysfs"):
            folder = _folder_without_links(child, target, fstype)
        else:
            folder = open_folder(child.root_fd, target)
            _refuse_detour(folder, target)
        os.fchdir(folder)
        hidden = os.open(".", os.O_RDONLY | os.O_DIRECTORY) if copies else -1
        os.close(folder)
        kernel.mount(source, ".", fstype, flags, data)
        if copies:
            shown = open_in_root(child.root_fd, target, os.O_RDONLY | os.O_DIRECTORY)
            copy_up(hidden, shown)
            os.close(shown)
            os.close(hidden)
    except KernelError as error:
        error.detail = f"{source} -> {target}" + (f" ({data})" if data else "")
        raise


def _folder_without_links(child: Child, target: str, fstype: str) -> int:
    """Return the folder to mount /proc or /sys on, which nobody may redirect.

    What is masked later is looked up by name below it (CVE-2019-19921, CVE-2023-27561).
    """
    flags = os.O_PATH | os.O_DIRECTORY
    try:
        return openat2(child.root_fd, target, flags, resolve=_NO_LINKS)
    except KernelError as error:
        if error.errno == errno.ELOOP:
            text = f"{target} is a symbolic link in the image; {fstype} is not mounted through it"
            raise LaunchError(text) from error
        if error.errno != errno.ENOENT:
            raise
    os.close(open_folder(child.root_fd, target))
    return openat2(child.root_fd, target, flags, resolve=_NO_LINKS)


def _refuse_detour(place: int, target: str) -> None:
    """Raise if a link of the image has led *target* over the kernel's files.

    What is masked, made read-only and set there later would be what is mounted instead
    (CVE-2023-28642, CVE-2025-52881). Who means it says it: then the target is below /proc or /sys.
    """
    top = _OF_THE_KERNEL.get(filesystem_magic(place))
    if top is not None and os.path.normpath(target).split("/")[1] not in ("proc", "sys"):
        raise LaunchError(f"{target} leads into {top} by a link in the image")


def place(child: Child, slot: int, target: str, fstype: str) -> None:
    """Put a file system from `filesystem` in its place."""
    source = child.slots.pop(slot)
    folder = _folder_without_links(child, target, fstype)
    kernel.attach(source, folder)
    os.close(folder)
    os.close(source)


def attach(child: Child, slot: int, target: str) -> None:
    """Put a clone in its place."""
    source = child.slots.pop(slot)
    is_folder = stat.S_ISDIR(os.fstat(source).st_mode)
    place = (open_folder if is_folder else open_file)(child.root_fd, target)
    try:
        if not is_folder and stat.S_ISDIR(os.fstat(place).st_mode):
            raise LaunchError(f"{target} is a folder in the image; a file cannot be bound on it")
        _refuse_detour(place, target)
        kernel.attach(source, place)
    except KernelError as error:
        error.detail = target
        raise
    finally:
        os.close(place)
        os.close(source)


def node(child: Child, path: str, mode: int, major: int, minor: int, uid: int, gid: int) -> None:
    """Make a device node, unless that very one is there."""
    device = os.makedev(major, minor)
    folder, name = _parent(child, path)
    try:
        os.mknod(name, mode, device, dir_fd=folder)
        if uid or gid:
            os.chown(name, uid, gid, dir_fd=folder, follow_symlinks=False)
    except FileExistsError as error:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if (stat.S_IFMT(status.st_mode), status.st_rdev) != (stat.S_IFMT(mode), device):
            raise LaunchError(f"{path} is in the image already, and another thing") from error
    finally:
        os.close(folder)


def symlink(child: Child, text: str, path: str) -> None:
    """Make a symbolic link, unless something of that name is there."""
    folder, name = _parent(child, path)
    try:
        os.symlink(text, name, dir_fd=folder)
    except FileExistsError:
        pass
    finally:
        os.close(folder)


def _parent(child: Child, path: str) -> tuple[int, str]:
    parent, name = os.path.split(path.rstrip("/"))
    return open_folder(child.root_fd, parent), name


def console(child: Child, bind: bool, uid: int) -> None:
    """Make a terminal the standard streams, and hand its master to the parent."""
    master, slave = open_terminal(child.root_fd)
    os.fchown(slave, uid, -1)
    if child.size is not None:
        resize_terminal(slave, rows=child.size[0], columns=child.size[1])
    if bind:
        place = _open_console(child)
        clone = kernel.open_tree(slave, "", _CLONE)
        kernel.attach(clone, place)
        os.close(clone)
        os.close(place)
    for stream in (0, 1, 2):
        os.dup2(slave, stream)
    child.send({"terminal": True}, (master,))
    os.close(slave)
    os.close(master)


def _open_console(child: Child) -> int:
    """Return the file to put the terminal on; a link would put it on another (CVE-2025-52565)."""
    folder, name = _parent(child, "/dev/console")
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        try:
            place = os.open(name, flags, dir_fd=folder)
        except FileNotFoundError:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644, dir_fd=folder))
            place = os.open(name, flags, dir_fd=folder)
    finally:
        os.close(folder)
    if stat.S_ISLNK(os.fstat(place).st_mode):
        raise LaunchError("/dev/console is a symbolic link in the image")
    return place


def sysctl(child: Child, path: str, value: str) -> None:
    """Set a kernel parameter of one of our namespaces, and nothing that only looks like one."""
    place = f"/proc/sys/{path}"
    fd = openat2(child.root_fd, place, os.O_WRONLY | os.O_NONBLOCK, resolve=_NO_LINKS)
    try:
        if filesystem_magic(fd) != PROC_SUPER_MAGIC:
            raise LaunchError(f"{place} is no parameter of the kernel: something is mounted there")
        os.write(fd, value.encode())
    except OSError as error:
        raise KernelError(error.errno or 0, "write", f"{value} -> {place}") from error
    finally:
        os.close(fd)


def mask(child: Child, paths: tuple[str, ...]) -> None:
    """Hide what is there: a folder behind an empty one, anything else behind /dev/null."""
    null = open_in_root(child.root_fd, "/dev/null")
    status = os.fstat(null)
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != _NULL:
        # It would show instead of hide (CVE-2025-31133).
        raise LaunchError("/dev/null in the container is not the null device")
    for path in paths:
        place = _open_if_there(child, path)
        if place is None:
            continue
        if stat.S_ISDIR(os.fstat(place).st_mode):
            os.fchdir(place)
            kernel.mount("tmpfs", ".", "tmpfs", _MASK_FLAGS, "mode=755,nr_inodes=1")
        else:
            clone = kernel.open_tree(null, "", _CLONE)
            kernel.attach(clone, place)
            os.close(clone)
        os.close(place)
    os.close(null)


def readonly(child: Child, paths: tuple[str, ...]) -> None:
    """Put a read-only mount of what is there on top of it."""
    for path in paths:
        place = _open_if_there(child, path)
        if place is None:
            continue
        clone = kernel.open_tree(place, "", _CLONE | kernel.AT_RECURSIVE)
        flags = kernel.AT_EMPTY_PATH | kernel.AT_RECURSIVE
        kernel.mount_setattr(clone, "", flags, attr_set=kernel.MOUNT_ATTR_RDONLY)
        kernel.attach(clone, place)
        os.close(clone)
        os.close(place)


def _open_if_there(child: Child, path: str) -> int | None:
    try:
        return open_in_root(child.root_fd, path)
    except KernelError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise
        return None


def mount_attributes(child: Child, path: str, added: int) -> None:
    """Change the mount at *path*."""
    place = open_in_root(child.root_fd, path)
    try:
        kernel.mount_setattr(place, "", kernel.AT_EMPTY_PATH, attr_set=added)
    except KernelError as error:
        error.detail = path
        raise
    finally:
        os.close(place)


def root_propagation(child: Child, flags: int) -> None:
    """Decide how mounts below the root spread."""
    kernel.mount(None, "/", None, flags)


OPERATIONS: dict[str, Callable[..., None]] = {
    "place": place,
    "mount": mount,
    "attach": attach,
    "node": node,
    "symlink": symlink,
    "console": console,
    "sysctl": sysctl,
    "mask": mask,
    "readonly": readonly,
    "mount_attributes": mount_attributes,
    "root_propagation": root_propagation,
}
