"""Operations on the host's files, up to the pivot; see `runtime.kernel.program`.

They handle paths of ours and of the operator, while these are in view: what the container is given
of the host is cloned, its root is put together and made the root.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import closing

from runtime.errors import KernelError, LaunchError
from runtime.kernel import mask
from runtime.kernel import mount as kernel
from runtime.kernel.bare import socket
from runtime.kernel.namespaces import CLONE_NEWNS, mapped_namespace, unshare
from runtime.kernel.passing import receive_fds, send_fds
from runtime.kernel.procfs import read_mountinfo
from runtime.rootfs.overlay import claim_work, lacks_overlay_by_fd, mount_overlay, overlay
from runtime.supervisor.child import MOST_BYTES, Child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def tree(child: Child, slot: int, source: str, recursive: bool) -> None:
    """Clone the mount at the host's *source* while it is in view."""
    flags = kernel.OPEN_TREE_CLONE | (kernel.AT_RECURSIVE if recursive else 0)
    child.slots[slot] = kernel.open_tree(kernel.AT_FDCWD, source, flags)


def attributes(
    child: Child, slot: int, added: int, cleared: int, propagation: int, recursive: bool
) -> None:
    """Change a clone before anybody can see it."""
    kernel.mount_setattr(
        child.slots[slot],
        "",
        kernel.AT_EMPTY_PATH | (kernel.AT_RECURSIVE if recursive else 0),
        attr_set=added,
        attr_clr=cleared,
        propagation=propagation,
    )


def private(child: Child, propagation: int = kernel.MS_PRIVATE) -> None:
    """Keep what is mounted from here on from the host, and the other way round.

    With MS_SLAVE as *propagation* only the first.
    """
    try:
        kernel.mount(None, "/", None, kernel.MS_REC | propagation)
    except KernelError as error:
        if error.errno != errno.EINVAL:
            raise
        text = "/ is no mount point here (a chroot?): bind it on itself first (mount --bind)"
        raise LaunchError(text) from error


def overlay_root(
    child: Child, lowers: tuple[str, ...], upper: str | None, work: str | None, volatile: bool
) -> None:
    """Mount the layers over the host's root, to be pivoted into."""
    if work is not None:
        claim_work(work, volatile=volatile)
    try:
        child.root_fd = overlay(lowers, upper, work, volatile=volatile)
    except KernelError as error:
        if not lacks_overlay_by_fd(error):
            raise
        # The descriptors are open by the time the mount hides the folder it is put on.
        mount_overlay(lowers, upper, work, target=lowers[0], volatile=volatile)
        child.root_fd = os.open(lowers[0], os.O_PATH | os.O_DIRECTORY)
        return
    _cover_root(child.root_fd)


def bind_root(child: Child, path: str) -> None:
    """Put a clone of a folder over the host's root, to be pivoted into."""
    flags = kernel.OPEN_TREE_CLONE | kernel.AT_RECURSIVE
    child.root_fd = kernel.open_tree(kernel.AT_FDCWD, path, flags)
    _cover_root(child.root_fd)


def slot_root(child: Child, slot: int) -> None:
    """Put a clone made earlier over the host's root, to be pivoted into."""
    child.root_fd = child.slots.pop(slot)
    _cover_root(child.root_fd)


def _cover_root(fd: int) -> None:
    # No folder is needed to mount on: a mount on "/" is seen only by who has it open.
    kernel.move_mount(fd, "", kernel.AT_FDCWD, "/", kernel.MOVE_MOUNT_F_EMPTY_PATH)


def pivot(child: Child) -> None:
    """Make the mounted root the root, and let go of the host's."""
    os.fchdir(child.root_fd)
    kernel.pivot_root(".", ".")
    kernel.umount2(".", kernel.MNT_DETACH)
    os.chdir("/")
    os.close(child.root_fd)
    child.root_fd = os.open("/", os.O_PATH | os.O_DIRECTORY)


def change_root(child: Child) -> None:
    """Make the mounted root the root where pivot_root(2) cannot: the host's is a ramfs.

    The host's proc and sysfs go: while one of them is in the mount namespace, a user namespace
    made inside may mount another that masks nothing.
    """
    for mount_ in reversed(read_mountinfo() or ()):
        if mount_.fstype in ("proc", "sysfs"):
            _hide(mount_.mount_point)
    os.fchdir(child.root_fd)
    os.chroot(".")
    os.chdir("/")


def _hide(target: str) -> None:
    try:
        kernel.umount2(target, kernel.MNT_DETACH)
    except KernelError as error:
        if error.errno == errno.ENOENT:  # below one that went
            return
        if error.errno not in (errno.EINVAL, errno.EPERM):
            raise
        # Locked, since the namespace is of another user: then it is covered.
        kernel.mount("tmpfs", target, "tmpfs", kernel.MS_RDONLY)


def filesystem(
    child: Child, slot: int, source: str, fstype: str, flags: int, data: tuple[str, ...]
) -> None:
    """Make a file system of the kernel's that is mounted nowhere yet.

    In a user namespace proc and sysfs can be had only while those of the host are in view.
    """
    context = kernel.fsopen(fstype)
    try:
        kernel.fsconfig(context, kernel.FSCONFIG_SET_STRING, "source", source)
        for word in data:
            key, given, value = word.partition("=")
            command = kernel.FSCONFIG_SET_STRING if given else kernel.FSCONFIG_SET_FLAG
            kernel.fsconfig(context, command, key, value if given else None)
        kernel.fsconfig(context, kernel.FSCONFIG_CMD_CREATE)
        child.slots[slot] = kernel.fsmount(context, flags)
    finally:
        os.close(context)


def device(child: Child, slot: int, mode: int, major: int, minor: int, uid: int, gid: int) -> None:
    """Make a device node on a file system of its own, for where no node can be made.

    That is a user namespace.
    """
    filesystem(child, slot, "tmpfs", "tmpfs", 0, ("mode=755",))
    place = child.slots[slot]
    os.mknod("node", mode, os.makedev(major, minor), dir_fd=place)
    os.chown("node", uid, gid, dir_fd=place)
    child.slots[slot] = _clone_of_node(child, place)
    os.close(place)


def _clone_of_node(child: Child, place: int) -> int:
    """Return a clone of what is called so on the detached mount *place*."""
    if not mask.is_masked(mask.DETACHED_CLONES):
        try:
            return kernel.open_tree(place, "node", kernel.OPEN_TREE_CLONE)
        except KernelError as error:
            if error.errno != errno.EINVAL:
                raise
    # Before Linux 6.15 only of what is attached somewhere, in whose mount namespace one is.
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with closing(ours):
        with closing(theirs):
            pid = os.fork()
            if pid == 0:
                _send_clone_of_attached(child, place, theirs)
        words, fds = receive_fds(ours, MOST_BYTES, 1)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if fds:
        return fds[0]
    if words:
        raise LaunchError(words.decode(errors="surrogateescape"))
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    raise LaunchError(f"the process that was to clone a device's node {how}, without a word")


def _send_clone_of_attached(child: Child, place: int, channel: socket.socket) -> NoReturn:
    """Be the child: attach *place* where nobody else sees it, and send the clone or what is wrong.

    It has the host in view with all of root's privileges: it must be born into a pid namespace
    of the host's, so this comes before any other is entered.
    """
    try:
        unshare(CLONE_NEWNS)
        private(child)
        kernel.attach(place, os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        send_fds(channel, b"node", [kernel.open_tree(place, "node", kernel.OPEN_TREE_CLONE)])
    except (OSError, LaunchError) as error:
        channel.send(str(error).encode(errors="surrogateescape"))
    finally:
        os._exit(0)


def host_device(child: Child, slot: int, path: str, mode: int, major: int, minor: int) -> None:
    """Clone the host's node of a device, from the same path or where the kernel says it is.

    Its owner and mode are the host's, who decides so whether it can be used.
    """
    kind = "block" if stat.S_ISBLK(mode) else "char"
    for source in (path, _devtmpfs_path(f"/sys/dev/{kind}/{major}:{minor}/uevent")):
        try:
            status = os.stat(source)
        except OSError:
            continue
        if stat.S_IFMT(status.st_mode) == stat.S_IFMT(mode) and (
            stat.S_ISFIFO(mode) or status.st_rdev == os.makedev(major, minor)
        ):
            tree(child, slot, source, False)
            return
    text = f"the host has no node of {kind} device {major}:{minor}, and here none can be made"
    raise LaunchError(text)


def _devtmpfs_path(uevent: str) -> str:
    try:
        with open(uevent, encoding="utf-8") as file:
            lines = dict(line.rstrip("\n").partition("=")[::2] for line in file)
    except OSError:
        return ""
    return f"/dev/{lines['DEVNAME']}" if "DEVNAME" in lines else ""


def idmap(
    child: Child,
    slot: int,
    uids: tuple[tuple[int, int, int], ...],
    gids: tuple[tuple[int, int, int], ...],
    recursive: bool,
) -> None:
    """Have a clone show its files with other owners: container id, host id, size each."""
    flags = kernel.AT_EMPTY_PATH | (kernel.AT_RECURSIVE if recursive else 0)
    namespace = mapped_namespace(uids, gids)
    try:
        kernel.mount_setattr(
            child.slots[slot],
            "",
            flags,
            attr_set=kernel.MOUNT_ATTR_IDMAP,
            userns_fd=namespace,
        )
    finally:
        os.close(namespace)


OPERATIONS: dict[str, Callable[..., None]] = {
    "tree": tree,
    "attributes": attributes,
    "private": private,
    "overlay": overlay_root,
    "bind_root": bind_root,
    "slot_root": slot_root,
    "pivot": pivot,
    "change_root": change_root,
    "filesystem": filesystem,
    "device": device,
    "host_device": host_device,
    "idmap": idmap,
}
