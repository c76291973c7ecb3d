"""Random access to the members of an archive, be it a folder, a tar or a compressed tar.

A compressed tar is unpacked once into a file that has no name, so that members can be read in the
order the image wants and nothing is left behind. Names are looked up in the archive and never on
the host: a link in a tar leads to another member, one in a folder must stay inside.
"""

import os
import posixpath
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from runtime.errors import ImageError
from runtime.image.compression import PIECE, Compression, decompress, detect
from runtime.image.digest import Readable
from runtime.image.folders import FOLDER_FLAGS
from runtime.image.tarentry import Entry, Kind
from runtime.image.tarreader import TarReader

_LINKS = 10
# Not blocking: a pipe in a folder from strangers must not make us wait.
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class ArchiveFile(Protocol):
    """Members by name, without leading ``./``."""

    def has(self, name: str) -> bool:
        """Say whether there is a member *name*."""
        ...

    def open(self, name: str) -> "Member":
        """Open a member for reading; an ImageError if there is none. The caller closes it."""
        ...

    def read(self, name: str, limit: int) -> bytes:
        """Return a member whole; an ImageError if it has more than *limit* bytes."""
        ...


@contextmanager
def open_archive(path: Path, scratch: Path) -> Iterator[ArchiveFile]:
    """Open the archive at *path*; *scratch* is a folder for the content of compressed ones.

    Raises:
        ImageError: it is not there, or neither folder nor tar.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}") from error
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        try:
            yield _Folder(fd, path)
        finally:
            os.close(fd)
        return
    with os.fdopen(fd, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ImageError(f"{path}: neither a file nor a folder")
        compressed = detect(file.read(6)) is not Compression.NONE
        file.seek(0)
        if not compressed:
            yield _Tar(file, path)
            return
        with tempfile.TemporaryFile(dir=scratch, buffering=0) as plain:
            stream = decompress(file)
            while piece := stream.read(PIECE):
                plain.write(piece)
            plain.seek(0)
            yield _Tar(plain, path)


class Member:
    """A stretch of a file, read from its start; several may be open on one file."""

    def __init__(self, fd: int, start: int, size: int) -> None:
        self._fd = os.dup(fd)
        self._at = start
        self._end = start + size

    def __enter__(self) -> "Member":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def read(self, size: int, /) -> bytes:
        """Return up to *size* bytes, empty at the end."""
        data = os.pread(self._fd, min(size, self._end - self._at), self._at)
        self._at += len(data)
        return data


class _Tar:
    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._path = path
        self._members = self._scan()

    def has(self, name: str) -> bool:
        return name in self._members

    def open(self, name: str) -> Member:
        where = name
        for _ in range(_LINKS):
            entry, start = self._members.get(where, (None, 0))
            if entry is None:
                break
            if entry.kind is Kind.FILE:
                return Member(self._file.fileno(), start, entry.size)
            # docker save writes a layer that several images share once, and links to it.
            target = os.fsdecode(entry.link)
            above = posixpath.dirname(where) if entry.kind is Kind.SYMLINK else ""
            where = posixpath.normpath(posixpath.join(above, target)).lstrip("/")
        raise ImageError(f"{self._path}: has no member {name}")

    def read(self, name: str, limit: int) -> bytes:
        with self.open(name) as member:
            return _read_whole(member, limit, f"{self._path}: {name}")

    def _scan(self) -> dict[str, tuple[Entry, int]]:
        reader = _SeekingReader(self._file)
        found = {}
        for entry in reader:
            name = posixpath.normpath(os.fsdecode(entry.path))
            if entry.kind in (Kind.FILE, Kind.SYMLINK, Kind.HARDLINK):
                found[name] = (entry, reader.data_start)
        return found


class _SeekingReader(TarReader):
    """Reads headers only: goes past data by moving the file's position."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(iter(lambda: file.read(8192), b""))
        self._file = file

    @property
    def data_start(self) -> int:
        """Where in the file the data of the current entry starts."""
        return self._file.tell() - (len(self._buffer) - self._position)

    def _skip(self) -> None:
        rest = self._data + self._padding
        if rest > len(self._buffer) - self._position:
            self._file.seek(self.data_start + rest)
            self._buffer, self._position = b"", 0
            self._data = self._padding = 0
        super()._skip()


class _Folder:
    def __init__(self, fd: int, path: Path) -> None:
        self._fd = fd
        self._path = path

    def has(self, name: str) -> bool:
        try:
            with self.open(name):
                return True
        except ImageError:
            return False

    def open(self, name: str) -> Member:
        where = name
        for _ in range(_LINKS):
            found = self._open_at(where, name)
            if isinstance(found, Member):
                return found
            where = posixpath.join(posixpath.dirname(where), found)
        raise ImageError(f"{self._path}: {name}: too many symbolic links")

    def _open_at(self, where: str, name: str) -> Member | str:
        """Open the file *where*; if it is a link, return its target instead."""
        if "\0" in where:
            raise ImageError(f"{self._path}: {name!r} is no name of a file")
        *above, last = posixpath.normpath(where).split("/")
        if ".." in (*above, last) or where.startswith("/"):
            raise ImageError(f"{self._path}: {name} leads outside")
        folder = os.dup(self._fd)
        try:
            for part in above:
                below = os.open(part, FOLDER_FLAGS, dir_fd=folder)
                os.close(folder)
                folder = below
            if stat.S_ISLNK(os.stat(last, dir_fd=folder, follow_symlinks=False).st_mode):
                return os.readlink(last, dir_fd=folder)
            fd = os.open(last, _FILE_FLAGS, dir_fd=folder)
        except OSError as error:
            raise ImageError(f"{self._path}: {name}: {error.strerror}") from error
        finally:
            os.close(folder)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise ImageError(f"{self._path}: {name} is not a file")
            return Member(fd, 0, status.st_size)
        finally:
            os.close(fd)

    def read(self, name: str, limit: int) -> bytes:
        with self.open(name) as member:
            return _read_whole(member, limit, f"{self._path}/{name}")


def _read_whole(source: Readable, limit: int, what: str) -> bytes:
    pieces = []
    size = 0
    while piece := source.read(PIECE):
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise ImageError(f"{what}: more than {limit} bytes")
    return b"".join(pieces)
