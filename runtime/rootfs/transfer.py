"""Copies files and folders between trees of which one is a stranger's.

Every name is opened in a folder held open, and never through a link: whoever renames and links
in that tree meanwhile leads nothing out of it.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from runtime.errors import StateError
from runtime.kernel import mask
from runtime.kernel.path import (
    CGROUP2_SUPER_MAGIC,
    CGROUP_SUPER_MAGIC,
    LIST,
    LOOK,
    PROC_SUPER_MAGIC,
    SYSFS_MAGIC,
    filesystem_magic,
)
from runtime.kernel.replace import write_all
from runtime.record import dataclass

_PIECE = 1 << 24
_SET_ID = stat.S_ISUID | stat.S_ISGID
_SPECIAL = {
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
}
_NO_TMPFILE = (errno.EOPNOTSUPP, errno.EISDIR)
"""Of open(2) with O_TMPFILE: the file system, or the kernel for it, has none."""
_DEEPEST = 400
"""So many folders in each other: each level costs two descriptors and two frames."""

_OF_KERNEL = (PROC_SUPER_MAGIC, SYSFS_MAGIC, CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC)
ABSENT = "is mounted while it runs; the container has ended"
OF_KERNEL = "shows what the kernel has: a folder with nothing in it"

Identity = tuple[int, int]
"""Device and inode."""


@dataclass(frozen=True, slots=True)
class How:
    """What a copy keeps. Modes and times are kept in any case."""

    owner: tuple[int, int] | None
    """Whose everything is; None: whose it was."""
    set_id: bool
    """Whether set-user-id and set-group-id bits are kept, and sticky bits of what is no folder."""
    devices: bool
    """Whether device nodes are copied."""
    left_out: Callable[[str], None]
    """Told of what was not copied, and why."""
    absent: frozenset[Identity] = frozenset()
    """What is neither copied nor copied to: something is mounted there while the container runs."""


def copy(
    source: int, name: str, target: int, new_name: str, how: How, *, shown: str | None = None
) -> None:
    """Copy what is called *name* in the folder *source* to *new_name* in the folder *target*.

    A folder that is there is filled, and keeps its mode and owner; a file or link that is there
    is replaced at once, and what the link leads to is left alone. Not atomic as a whole. Errors
    call the source *shown* if that is given.

    Raises:
        StateError: a folder would be copied into itself, or is too deep: nothing was copied; or
            somebody else changes what is copied to; or a file would take the place of a device,
            FIFO or socket, which cp(1) would write into.
        OSError: as of the calls, with the name from *name* or *new_name* on; ENOTDIR or EISDIR:
            a folder and a file are in each other's place.
    """
    shown = name if shown is None else shown
    with _naming(shown):
        here = os.open(name, LOOK, dir_fd=source)
    try:
        if stat.S_ISDIR(os.fstat(here).st_mode):
            taken = at_or_above(target)
            with suppress(FileNotFoundError):
                taken.add(identity(os.stat(new_name, dir_fd=target, follow_symlinks=False)))
            _must_lie_outside(taken, here, shown, shown)
        _Copying(shown, new_name, how).copy(here, target, new_name, "")
    finally:
        os.close(here)


def copy_members(source: int, target: int, how: How) -> None:
    """Copy what is in the folder *source* into the folder *target*. Raises as `copy`."""
    _must_lie_outside(at_or_above(target), source, "the folder", "")
    _Copying("", "", how).copy_members(source, target, "")


def at_or_above(folder: int) -> set[Identity]:
    """Return what *folder* and the folders that hold it are, up to the root of their mounts."""
    found: set[Identity] = set()
    here = os.dup(folder)
    try:
        while (now := identity(os.fstat(here))) not in found:
            found.add(now)
            above = os.open("..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=here)
            os.close(here)
            here = above
    finally:
        os.close(here)
    return found


def _must_lie_outside(taken: set[Identity], folder: int, name: str, path: str) -> None:
    """See that none of *taken* is *folder* or below it, by other mounts perhaps.

    Raises:
        StateError: one is, and the copy would have no end; or folders are too deep.
    """
    if identity(os.fstat(folder)) in taken:
        raise StateError(
            f"cannot copy {name} into itself: what it is to go to is in it, "
            "perhaps by way of a volume; copy it to somewhere else first"
        )
    must_not_be_deep(path)
    with _opened(".", LIST, folder) as reading, os.scandir(reading) as members:
        inner = [each.name for each in members if each.is_dir(follow_symlinks=False)]
    for each in inner:
        try:
            below = os.open(each, LOOK, dir_fd=folder)
        except FileNotFoundError:
            continue
        try:
            if stat.S_ISDIR(os.fstat(below).st_mode):
                _must_lie_outside(taken, below, name, f"{path}/{each}")
        finally:
            os.close(below)


def must_not_be_deep(path: str) -> None:
    """See that *path* can be copied.

    Raises:
        StateError: folders are too deep in each other.
    """
    if path.count("/") > _DEEPEST:
        top = "/".join(path.split("/")[:4])
        raise StateError(f"cannot copy {top}/...: more than {_DEEPEST} folders deep")


@dataclass(frozen=True, slots=True)
class _Copying:
    """One copy, and what the user calls where it comes from and where it goes."""

    source: str
    target: str
    how: How

    def copy(self, here: int, target: int, new_name: str, inner: str) -> None:
        """Copy what *here* is, a descriptor with O_PATH, of path *inner* below what is copied.

        It is looked at and read by that: what has taken its name meanwhile is never opened,
        which a device would act on.
        """
        found = os.fstat(here)
        if self._is_absent(found, target, new_name):
            self.how.left_out(f"{self.target}{inner} {ABSENT}")
            return
        if not stat.S_ISDIR(found.st_mode):
            with _naming(self.target + inner):
                self._copy_one(here, found, target, new_name, inner)
            return
        made = True
        with _naming(self.target + inner):
            try:
                os.mkdir(new_name, 0o700, dir_fd=target)
            except FileExistsError:
                made = False
            there = os.open(new_name, LIST, dir_fd=target)
        try:
            if inner and begins_the_kernels(here):
                self.how.left_out(f"{self.target}{inner} {OF_KERNEL}")
            else:
                self.copy_members(here, there, inner)
            if made:
                with _naming(self.target + inner):
                    _keep(there, os.fstat(here), self.how)
        finally:
            os.close(there)

    def _is_absent(self, found: os.stat_result, target: int, new_name: str) -> bool:
        if not self.how.absent:
            return False
        if identity(found) in self.how.absent:
            return True
        with suppress(FileNotFoundError):
            there = os.stat(new_name, dir_fd=target, follow_symlinks=False)
            return identity(there) in self.how.absent
        return False

    def copy_members(self, here: int, there: int, inner: str) -> None:
        """Copy what is in the folder *here* into the folder *there*."""
        must_not_be_deep(inner)
        with _naming(self.source + inner), _opened(".", LIST, here) as reading:
            names = sorted(os.listdir(reading))
        for name in names:
            below = f"{inner}/{name}" if self.source + inner else name
            with _naming(self.source + below):
                member = os.open(name, LOOK, dir_fd=here)
            try:
                self.copy(member, there, name, below)
            finally:
                os.close(member)

    def _copy_one(
        self, here: int, found: os.stat_result, target: int, new_name: str, inner: str
    ) -> None:
        kind = stat.S_IFMT(found.st_mode)
        if kind == stat.S_IFREG:
            with beside(target, new_name, kind) as fresh:
                _copy_file(here, target, fresh, self.source + inner, self.how)
        elif kind == stat.S_IFLNK:
            with _naming(self.source + inner):
                text = os.readlink("", dir_fd=here)
            with beside(target, new_name, kind) as fresh:
                os.symlink(text, fresh, dir_fd=target)
                self._keep_made(fresh, target, found)
        elif kind == stat.S_IFIFO or (kind in (stat.S_IFCHR, stat.S_IFBLK) and self.how.devices):
            with beside(target, new_name, kind) as fresh:
                os.mknod(fresh, kind | 0o600, found.st_rdev, dir_fd=target)
                self._keep_made(fresh, target, found)
        else:
            what = "socket" if kind == stat.S_IFSOCK else "device"
            self.how.left_out(f"{self.target}{inner} is a {what}")

    def _keep_made(self, fresh: str, target: int, found: os.stat_result) -> None:
        """Give what was made as *fresh* its owner and mode, and nothing that has taken its name.

        Raises:
            StateError: something has.
        """
        with _opened(fresh, LOOK, target) as made:
            now = os.fstat(made)
            if (stat.S_IFMT(now.st_mode), now.st_rdev) != (
                stat.S_IFMT(found.st_mode),
                found.st_rdev,
            ):
                raise StateError(f"cannot copy {self.source}: somebody else changes {self.target}")
            # There is no fchmod(2) by such a descriptor; this leads to what it is, also to a link.
            place = f"/proc/self/fd/{made}"
            os.chown(place, *(self.how.owner or (found.st_uid, found.st_gid)))
            if not stat.S_ISLNK(found.st_mode):
                os.chmod(place, _mode(found, self.how))


def _copy_file(here: int, target: int, fresh: str, source: str, how: How) -> None:
    with _naming(source):
        reading = os.open(f"/proc/self/fd/{here}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        nameless = True
        try:
            if mask.is_masked(mask.O_TMPFILE):
                raise OSError(errno.EOPNOTSUPP, "O_TMPFILE is masked")
            # Gone with us if we are killed.
            there = os.open(".", os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o600, dir_fd=target)
        except OSError as error:
            if error.errno not in _NO_TMPFILE:
                raise
            nameless = False
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            there = os.open(fresh, flags, 0o600, dir_fd=target)
        try:
            _pour(reading, there, source)
            _keep(there, os.fstat(reading), how)
            if nameless:
                os.link(f"/proc/self/fd/{there}", fresh, dst_dir_fd=target)
        finally:
            os.close(there)
    finally:
        os.close(reading)


def _pour(reading: int, there: int, source: str) -> None:
    with suppress(OSError):  # which does not say of which side; and some of /proc it cannot read
        while os.sendfile(there, reading, None, _PIECE):
            pass
        return
    while True:
        with _naming(source):
            data = os.read(reading, _PIECE)
        if not data:
            return
        write_all(there, data)


@contextmanager
def _opened(name: str, flags: int, folder: int) -> Iterator[int]:
    fd = os.open(name, flags, dir_fd=folder)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Have errors of the calls name *path*: their own names are ours, or but the last part.

    Of several in each other, the innermost knows best.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error.__cause__, OSError):  # it is named
            raise
        raise OSError(error.errno, error.strerror, path) from error


@contextmanager
def beside(target: int, name: str, file_type: int) -> Iterator[str]:
    """Yield a fresh name in *target*; what is made there then takes the place of *name*.

    It is to be of *file_type*, as S_IFREG; only that replaces a device, FIFO or socket.

    Raises:
        IsADirectoryError: there is a folder called *name*.
        StateError: a file is mounted there, or it is a device, FIFO or socket.
    """
    fresh = f".bayplan-{os.urandom(8).hex()}"
    with suppress(FileNotFoundError), _opened(name, LOOK, target) as there:
        # To replace it would take the mount away, without an error, as it is in another namespace.
        if _mount_of(there) != _mount_of(target):
            raise StateError(f"cannot replace {name}: it is mounted there")
        # Looked at, not opened, nor written into, as that may have any effect.
        there_type = stat.S_IFMT(os.fstat(there).st_mode)
        if there_type in _SPECIAL and there_type != file_type:
            raise StateError(
                f"cannot replace {name}: it is a {_SPECIAL[there_type]}; remove it first, "
                "or write into it with a program, by exec if it is in a container"
            )
    try:
        yield fresh
        os.rename(fresh, name, src_dir_fd=target, dst_dir_fd=target)
    except BaseException:
        with suppress(OSError):  # the first error is what counts
            os.unlink(fresh, dir_fd=target)
        raise


def _mount_of(fd: int) -> str:
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
        return next(line for line in file if line.startswith("mnt_id:"))


def _keep(copied: int, found: os.stat_result, how: How) -> None:
    os.fchown(copied, *(how.owner or (found.st_uid, found.st_gid)))
    os.fchmod(copied, _mode(found, how))
    os.utime(copied, ns=(found.st_atime_ns, found.st_mtime_ns))


def _mode(found: os.stat_result, how: How) -> int:
    return mode_kept(stat.S_IMODE(found.st_mode), how, folder=stat.S_ISDIR(found.st_mode))


def mode_kept(mode: int, how: How, *, folder: bool) -> int:
    """Return what is kept of a mode; as by cp(1), the sticky bit of a folder in any case."""
    if how.set_id:
        return mode
    return mode & ~(_SET_ID if folder else _SET_ID | stat.S_ISVTX)


def begins_the_kernels(folder: int) -> bool:
    """Tell whether a file system such as /proc or /sys is mounted at *folder*.

    What is in there are no files that could be copied, nor all of them read.
    """
    device = os.stat("..", dir_fd=folder).st_dev
    return device != os.fstat(folder).st_dev and filesystem_magic(folder) in _OF_KERNEL


def identity(found: os.stat_result) -> Identity:
    """Return by what a file is known to be another one, under whatever name."""
    return found.st_dev, found.st_ino
