"""A container's files as a tar stream, out of it and into it, as `docker cp` has them at ``-``.

Names in a tar are a stranger's, and so is what they meet in the container. Each is resolved inside
its root, whatever links are there or come meanwhile. A file takes the place of what was there at
once, but not of a device, FIFO or socket; what a link leads to is left alone.
"""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress

from runtime.errors import KernelError, LayerError
from runtime.image.compression import decompress
from runtime.image.digest import Readable
from runtime.image.names import show_name, split_name
from runtime.image.tarentry import Entry, Kind
from runtime.image.tarreader import TarReader
from runtime.image.tarwriter import TarWriter
from runtime.kernel.path import LIST, LOOK, openat2
from runtime.record import dataclass
from runtime.rootfs.resolve import open_folder, open_in_root
from runtime.rootfs.transfer import (
    ABSENT,
    OF_KERNEL,
    How,
    Identity,
    at_or_above,
    begins_the_kernels,
    beside,
    identity,
    mode_kept,
    must_not_be_deep,
)

_PIECE = 1 << 20
_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFDIR: Kind.FOLDER,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFCHR: Kind.CHARACTER,
    stat.S_IFBLK: Kind.BLOCK,
}
_TYPES = {kind: file_type for file_type, kind in _KINDS.items()}


def pack(source: int, name: str, new_name: str, write: Callable[[bytes], None], how: How) -> None:
    """Write a tar of what is called *name* in the folder *source*, below *new_name*.

    Owners are those it has. A file that shrinks meanwhile is filled up with zeros, as tar(1) does.

    Raises:
        StateError: folders are too deep.
        OSError: as of the calls, and of *write*.
    """
    here = os.open(name, LOOK, dir_fd=source)
    try:
        tar = TarWriter(write)
        _Packing(tar, how, {}).add(here, new_name, top=True)
        tar.close()
    finally:
        os.close(here)


@dataclass(frozen=True, slots=True)
class _Packing:
    tar: TarWriter
    how: How
    seen: dict[Identity, bytes]
    """Where what has several names was written."""

    def add(self, here: int, path: str, *, top: bool = False) -> None:
        """Write what *here* is, a descriptor with O_PATH, as *path*, and what is in it."""
        must_not_be_deep(path)
        found = os.fstat(here)
        if identity(found) in self.how.absent:
            self.how.left_out(f"{path} {ABSENT}")
            return
        kind = _KINDS.get(stat.S_IFMT(found.st_mode))
        if kind is None:
            self.how.left_out(f"{path} is a socket")
            return
        if kind in (Kind.CHARACTER, Kind.BLOCK) and not self.how.devices:
            self.how.left_out(f"{path} is a device")
            return
        entry = Entry(
            os.fsencode(path),
            kind,
            mode_kept(stat.S_IMODE(found.st_mode), self.how, folder=kind is Kind.FOLDER),
            *(self.how.owner or (found.st_uid, found.st_gid)),
            mtime_ns=found.st_mtime_ns,
        )
        if kind is Kind.FOLDER:
            self.tar.add(entry)
            if not top and begins_the_kernels(here):
                self.how.left_out(f"{path} {OF_KERNEL}")
                return
            reading = os.open(".", LIST, dir_fd=here)
            try:
                for name in sorted(os.listdir(reading)):
                    with suppress(FileNotFoundError):  # it has just gone
                        member = os.open(name, LOOK, dir_fd=here)
                        try:
                            self.add(member, f"{path}/{name}")
                        finally:
                            os.close(member)
            finally:
                os.close(reading)
        elif found.st_nlink > 1 and identity(found) in self.seen:
            first = self.seen[identity(found)]
            self.tar.add(entry._replace(kind=Kind.HARDLINK, link=first))
        else:
            self.seen[identity(found)] = entry.path
            self._add_one(here, entry, found)

    def _add_one(self, here: int, entry: Entry, found: os.stat_result) -> None:
        if entry.kind is Kind.SYMLINK:
            self.tar.add(entry._replace(link=os.fsencode(os.readlink("", dir_fd=here))))
        elif entry.kind is Kind.FILE:
            # By what it is: a device that has taken its name meanwhile would act on being opened.
            reading = os.open(f"/proc/self/fd/{here}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                size = os.fstat(reading).st_size
                self.tar.add(entry._replace(size=size), _exactly(reading, size))
            finally:
                os.close(reading)
        else:
            major, minor = os.major(found.st_rdev), os.minor(found.st_rdev)
            self.tar.add(entry._replace(major=major, minor=minor))


def _exactly(fd: int, size: int) -> Iterator[bytes]:
    while size:
        piece = os.read(fd, min(size, _PIECE)) or bytes(min(size, _PIECE))
        size -= len(piece)
        yield piece


def unpack(source: Readable, root: int, folder: str, how: How) -> None:
    """Put what is in a tar, gzipped perhaps, into *folder*, a path in the tree below *root*.

    Raises:
        LayerError: the tar is malformed, or an entry would leave the folder.
        StateError: where a file is to be, another one is mounted, or a device, FIFO or socket is.
        OSError: as of the calls, with the name of the entry. What came before it is there.
    """
    unpacking = _Unpacking(root, folder.rstrip("/"), how)
    stream = decompress(source)
    reader = TarReader(iter(lambda: stream.read(_PIECE), b""))
    for entry in reader:
        try:
            unpacking.put(entry, reader)
        except KernelError as error:
            raise OSError(error.errno, error.strerror, show_name(entry.path)) from error
        except OSError as error:
            raise OSError(error.errno, error.strerror, show_name(entry.path)) from error
    unpacking.finish()


class _Unpacking:
    def __init__(self, root: int, folder: str, how: How) -> None:
        self.root, self.folder, self.how = root, folder, how
        self.folders: list[Entry] = []
        """In the order of the tar; they get their modes and times when all is in them."""

    def put(self, entry: Entry, reader: TarReader) -> None:
        """Make one entry of what *reader* is at."""
        parts = [os.fsdecode(part) for part in split_name(entry.path)]
        if not parts:
            return  # the folder itself, which stays as it is
        parent = self._parent(parts)
        try:
            if self._is_absent(parent, parts[-1]):
                self.how.left_out(f"{'/'.join(parts)} {ABSENT}")
            elif entry.kind is Kind.FOLDER:
                self._put_folder(entry, parent, parts)
            elif entry.kind in (Kind.CHARACTER, Kind.BLOCK) and not self.how.devices:
                self.how.left_out(f"{'/'.join(parts)} is a device")
            else:
                self._put_one(entry, reader, parent, parts[-1])
        finally:
            os.close(parent)

    def finish(self) -> None:
        """Give the folders their owners, modes and times, the inner ones first."""
        for entry in reversed(self.folders):
            parts = [os.fsdecode(part) for part in split_name(entry.path)]
            parent = self._parent(parts)
            try:
                with suppress(FileNotFoundError, NotADirectoryError, KernelError):
                    made = openat2(parent, parts[-1], LIST)
                    try:
                        self._keep(made, entry)
                    finally:
                        os.close(made)
            finally:
                os.close(parent)

    def _parent(self, parts: list[str]) -> int:
        place = open_folder(self.root, "/".join((self.folder, *parts[:-1])) or "/")
        try:
            return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=place)
        finally:
            os.close(place)

    def _is_absent(self, parent: int, name: str) -> bool:
        """Tell whether that is in what is mounted while the container, which has ended, runs."""
        if not self.how.absent:
            return False
        found = at_or_above(parent)
        with suppress(FileNotFoundError):
            found.add(identity(os.stat(name, dir_fd=parent, follow_symlinks=False)))
        return not found.isdisjoint(self.how.absent)

    def _put_folder(self, entry: Entry, parent: int, parts: list[str]) -> None:
        try:
            os.mkdir(parts[-1], 0o700, dir_fd=parent)
        except FileExistsError:
            # One that is there keeps what it has. So does one that a link of the container means.
            with suppress(KernelError):
                path = "/".join((self.folder, *parts))
                os.close(open_in_root(self.root, path, os.O_PATH | os.O_DIRECTORY))
                return
            raise
        self.folders.append(entry)

    def _put_one(self, entry: Entry, reader: TarReader, parent: int, name: str) -> None:
        if entry.kind is Kind.HARDLINK:
            self._link(entry, parent, name)
            return
        with beside(parent, name, _TYPES[entry.kind]) as fresh:
            if entry.kind is Kind.SYMLINK:
                os.symlink(os.fsdecode(entry.link), fresh, dir_fd=parent)
                os.chown(fresh, *self._owner(entry), dir_fd=parent, follow_symlinks=False)
                return
            if entry.kind is Kind.FILE:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                made = os.open(fresh, flags, 0o600, dir_fd=parent)
                try:
                    reader.copy(made, entry)
                    self._keep(made, entry)
                finally:
                    os.close(made)
                return
            device = os.makedev(entry.major, entry.minor)
            os.mknod(fresh, _TYPES[entry.kind] | 0o600, device, dir_fd=parent)
            made = os.open(fresh, LOOK, dir_fd=parent)
            try:
                place = f"/proc/self/fd/{made}"
                os.chown(place, *self._owner(entry))
                os.chmod(place, mode_kept(entry.mode, self.how, folder=False))
            finally:
                os.close(made)

    def _link(self, entry: Entry, parent: int, name: str) -> None:
        """Make *name* another name of an earlier entry, never of what a link leads to."""
        parts = [os.fsdecode(part) for part in split_name(entry.link)]
        if not parts:
            raise LayerError(f"{show_name(entry.path)}: link to the folder itself")
        place = open_in_root(self.root, "/".join((self.folder, *parts[:-1])) or "/")
        try:
            found = os.stat(parts[-1], dir_fd=place, follow_symlinks=False)
            with beside(parent, name, stat.S_IFMT(found.st_mode)) as fresh:
                os.link(
                    parts[-1], fresh, src_dir_fd=place, dst_dir_fd=parent, follow_symlinks=False
                )
        finally:
            os.close(place)

    def _owner(self, entry: Entry) -> tuple[int, int]:
        return self.how.owner or (entry.uid, entry.gid)

    def _keep(self, made: int, entry: Entry) -> None:
        os.fchown(made, *self._owner(entry))
        folder = entry.kind is Kind.FOLDER
        os.fchmod(made, mode_kept(entry.mode, self.how, folder=folder))
        os.utime(made, ns=(entry.mtime_ns, entry.mtime_ns))
