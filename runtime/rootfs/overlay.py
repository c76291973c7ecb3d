"""An overlay of image layers, mounted but not yet attached anywhere.

index, metacopy and redirect_dir are switched off: what a container changed must be plain files,
whiteouts and opaque folders in its upper folder, because that folder may become a layer.

Source: Documentation/filesystems/overlayfs.rst.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Sequence

from runtime.errors import KernelError, StateError
from runtime.kernel import mask
from runtime.kernel.mount import (
    AT_FDCWD,
    FSCONFIG_CMD_CREATE,
    FSCONFIG_SET_FD,
    FSCONFIG_SET_FLAG,
    FSCONFIG_SET_STRING,
    MS_PRIVATE,
    MS_REC,
    OPEN_TREE_CLONE,
    fsconfig,
    fsmount,
    fsopen,
    mount,
    open_tree,
)
from runtime.kernel.namespaces import CLONE_NEWNS, unshare
from runtime.kernel.overlayfs import uses_user_xattrs
from runtime.kernel.procfs import boot_id


def _plain() -> tuple[str, ...]:
    # With userxattr the kernel follows no redirect anyway, and refuses the word.
    return ("index", "metacopy") if uses_user_xattrs() else ("index", "metacopy", "redirect_dir")


def overlay(
    lowers: Sequence[str], upper: str | None, work: str | None, *, volatile: bool = False
) -> int:
    """Return a detached overlay of *lowers* (lowest first) below *upper*; the caller closes it.

    Without *upper* it is read-only, and needs two lowers at least. *upper* and *work* exist, on
    one file system. *volatile* leaves out every sync: the upper folder does not survive a crash
    of the host; call `claim_work` before.

    The container reads in its mountinfo what the layers are called. From Linux 6.15 on they are
    given by clones that are mounted nowhere, so that nothing of the host's paths is in there.

    Raises:
        KernelError: on lowerdir+: the kernel is older than 6.13, see `lacks_overlay_by_fd` and
            `mount_overlay`. Other reasons for EINVAL are in the kernel's log.
    """
    if mask.is_masked(mask.LOWERDIR_BY_FD):
        raise KernelError(errno.EINVAL, "fsconfig", "lowerdir+ (masked)")
    if not mask.is_masked(mask.DETACHED_CLONES):
        try:
            return _overlay(lowers, upper, work, volatile=volatile, open_folder=_clone)
        except KernelError as error:
            if error.errno != errno.EINVAL or lacks_overlay_by_fd(error):
                raise
    return _overlay(lowers, upper, work, volatile=volatile, open_folder=_open)


def _overlay(
    lowers: Sequence[str],
    upper: str | None,
    work: str | None,
    *,
    volatile: bool,
    open_folder: Callable[[str], int],
) -> int:
    context = fsopen("overlay")
    with contextlib.ExitStack() as opened:
        opened.callback(os.close, context)

        def keep(fd: int) -> int:
            opened.callback(os.close, fd)
            return fd

        fsconfig(context, FSCONFIG_SET_STRING, "source", "overlay")
        for lower in reversed(lowers):
            fsconfig(context, FSCONFIG_SET_FD, "lowerdir+", aux=keep(open_folder(lower)))
        if upper is not None and work is not None:
            # Of one mount, or the kernel refuses them.
            parent = os.path.commonpath((upper, work))
            place = keep(open_folder(parent))
            for key, path in (("upperdir", upper), ("workdir", work)):
                folder = keep(_open(os.path.relpath(path, parent), place))
                fsconfig(context, FSCONFIG_SET_FD, key, aux=folder)
        for option in _plain():
            fsconfig(context, FSCONFIG_SET_STRING, option, "off")
        if uses_user_xattrs():
            fsconfig(context, FSCONFIG_SET_FLAG, "userxattr")
        if volatile:
            fsconfig(context, FSCONFIG_SET_FLAG, "volatile")
        fsconfig(context, FSCONFIG_CMD_CREATE)
        return fsmount(context)


def mount_overlay(
    lowers: Sequence[str],
    upper: str | None,
    work: str | None,
    *,
    target: str,
    volatile: bool = False,
) -> None:
    """Mount the same overlay at *target* with mount(2), for kernels before 6.13.

    The options of mount(2) are one page, so layers are named by descriptors: about 200 fit.
    Needs /proc.
    """
    with contextlib.ExitStack() as opened:

        def name(path: str) -> str:
            fd = _open(path)
            opened.callback(os.close, fd)
            return f"/proc/self/fd/{fd}"

        options = [f"lowerdir={':'.join(name(lower) for lower in reversed(lowers))}"]
        if upper is not None and work is not None:
            options += [f"upperdir={name(upper)}", f"workdir={name(work)}"]
        options += [f"{option}=off" for option in _plain()]
        if uses_user_xattrs():
            options.append("userxattr")
        if volatile:
            options.append("volatile")
        mount("overlay", target, "overlay", 0, ",".join(options))


@contextlib.contextmanager
def opened_overlay(
    lowers: Sequence[str], place: str, *, upper: str | None = None, work: str | None = None
) -> Iterator[int]:
    """Yield the root folder of *lowers* put together, as a descriptor with O_PATH.

    It is read-only, unless there is an *upper* (with its *work*) that nobody else has mounted.

    Nobody else sees it. Kernels before 6.13 make an overlay only where it is mounted, so that is
    done in a mount namespace of its own, at *place*, any folder. The namespace goes at once, with
    its thread: the mount stays as long as what is opened in it.
    """
    from concurrent.futures import ThreadPoolExecutor  # and logging with it: most have no use

    def mounted() -> int:
        unshare(CLONE_NEWNS)
        mount(None, "/", None, MS_REC | MS_PRIVATE)
        mount_overlay(lowers, upper, work, target=place)
        return _open(place)

    if len(lowers) > 1 or upper is not None:
        with ThreadPoolExecutor(max_workers=1) as alone:
            fd = alone.submit(mounted).result()
    else:
        fd = _open(lowers[0])
    try:
        yield fd
    finally:
        os.close(fd)


def _open(folder: str, place: int | None = None) -> int:
    return os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=place)


def _clone(folder: str) -> int:
    return open_tree(AT_FDCWD, folder, OPEN_TREE_CLONE)


def claim_work(work: str, *, volatile: bool) -> None:
    """Make *work* fit to be mounted again, if a volatile overlay has used it in this boot.

    The kernel refuses such a work folder, since it cannot know whether the data reached the disk
    or the host crashed. Within one boot nothing is lost, so the boot is noted beside the kernel's
    mark. Nothing may have the overlay mounted. Idempotent.

    Raises:
        StateError: the host has gone down since, and the upper folder may be damaged.
    """
    mark = f"{work}/work/incompat/volatile"
    note = f"{work}/boot"
    marked = os.path.exists(mark)
    if not (marked or volatile):
        return
    same_boot = _read(note).strip() == boot_id().encode()
    if marked:
        if not same_boot:
            raise StateError(f"the host went down while volatile {work} was in use: it is damaged")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{mark}/dirty")
        os.rmdir(mark)
    if not same_boot:
        fd = os.open(note, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        os.write(fd, boot_id().encode())
        os.close(fd)


def _read(path: str) -> bytes:
    """Return a short file's content, empty if it is missing."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        return os.read(fd, 64)
    finally:
        os.close(fd)


def lacks_overlay_by_fd(error: KernelError) -> bool:
    """Return whether `overlay` failed because the kernel is too old for it.

    Before 6.5, overlayfs had no options but texts (EOPNOTSUPP).
    """
    return (
        error.errno in (errno.EINVAL, errno.EOPNOTSUPP)
        and error.syscall == "fsconfig"
        and ("lowerdir+" in error.detail)
    )
