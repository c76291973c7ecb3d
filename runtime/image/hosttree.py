"""Which files of this host go into an image, and under which names.

A path is taken the way the kernel would walk it: each symbolic link on the way goes into the image
as a link, then the walk goes on at its target. So ``/bin/python3`` brings ``/bin`` (a link on
merged-/usr systems), ``/usr/bin/python3`` (a link) and ``/usr/bin/python3.11`` (the file).
"""

import os
import stat
from collections.abc import Callable, Iterator

from runtime.errors import ImageError
from runtime.image.tarentry import Entry, Kind
from runtime.image.tarwriter import TarWriter
from runtime.record import dataclass, field

_LINKS = 40
_PIECE = 1 << 20
Skip = Callable[[str, bool], bool]
"""Gets a name and whether it is a folder; True leaves it out."""


def keep_all(_name: str, _is_folder: bool) -> bool:
    """Leave nothing out."""
    return False


@dataclass(frozen=True, slots=True)
class Made:
    """A member that is not of this host."""

    kind: Kind
    mode: int = 0o644
    content: bytes = b""
    target: str = ""


@dataclass(slots=True)
class HostTree:
    """Absolute paths of the image; values say what they are. Grows by `add` and `make`."""

    links: dict[str, str] = field(default_factory=dict)
    folders: dict[str, int] = field(default_factory=dict)
    """Path -> mode."""
    files: dict[str, os.stat_result] = field(default_factory=dict)
    made: dict[str, Made] = field(default_factory=dict)

    def add(self, path: str) -> str:
        """Take *path* and the links that lead to it; return where it really is.

        Of a folder only itself is taken. Idempotent.

        Raises:
            ImageError: it is not there, or the links go in circles.
        """
        todo = path.split("/")[::-1]
        done = ""
        links = 0
        while todo:
            part = todo.pop()
            if part in ("", "."):
                continue
            if part == "..":
                done = done.rpartition("/")[0]
                continue
            here = f"{done}/{part}"
            try:
                status = os.lstat(here)
            except OSError as error:
                raise ImageError(f"{path}: {here}: {error.strerror}") from error
            if stat.S_ISLNK(status.st_mode):
                links += 1
                if links > _LINKS:
                    raise ImageError(f"{path}: too many symbolic links")
                target = self.links.setdefault(here, os.readlink(here))
                todo += target.split("/")[::-1]
                done = "" if target.startswith("/") else done
                continue
            self._take(here, status)
            done = here
        return done or "/"

    def add_tree(self, path: str, *, skip: Skip = keep_all) -> tuple[str, ...]:
        """Take *path* with all below it; return the files taken, and links to files.

        Links below are kept as they are; what they point at is not taken. Sockets, pipes and
        devices are left out.
        """
        real = self.add(path)
        return tuple(self._below(real, skip)) if real in self.folders else (real,)

    def make(self, path: str, made: Made) -> None:
        """Put *made* at *path* unless something is there; parents are made as needed."""
        real = self._resolve(path)
        if real in self.links or real in self.files or real in self.made:
            return
        if made.kind is Kind.FOLDER:
            self.folders[real] = made.mode
        else:
            self.made[real] = made

    def write(self, writer: TarWriter) -> None:
        """Write all of it in the order of names; leave *writer* open.

        Owners are root; files keep their time in whole seconds, the rest has none: the time of a
        folder changes with neighbours that are not in the image.

        Raises:
            ImageError: a file changed or went away meanwhile.
        """
        paths = {*self.links, *self.folders, *self.files, *self.made}
        for path in tuple(paths):
            above = path.rpartition("/")[0]
            while above and above not in paths:
                paths.add(above)
                above = above.rpartition("/")[0]
        linked: dict[tuple[int, int], bytes] = {}
        for path in sorted(paths, key=os.fsencode):
            name = os.fsencode(path[1:])
            if path in self.links:
                writer.add(_link(name, self.links[path]))
            elif path in self.files:
                self._write_file(writer, path, name, linked)
            elif path in self.made:
                _write_made(writer, name, self.made[path])
            else:
                writer.add(Entry(name, Kind.FOLDER, mode=self.folders.get(path, 0o755)))

    def _take(self, path: str, status: os.stat_result) -> None:
        if stat.S_ISDIR(status.st_mode):
            self.folders.setdefault(path, stat.S_IMODE(status.st_mode))
        elif stat.S_ISREG(status.st_mode):
            self.files.setdefault(path, status)
        else:
            raise ImageError(f"{path}: neither file, folder nor link")

    def _below(self, folder: str, skip: Skip) -> Iterator[str]:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            is_folder = entry.is_dir(follow_symlinks=False)
            if skip(entry.name, is_folder):
                continue
            if entry.is_symlink():
                self.links.setdefault(entry.path, os.readlink(entry.path))
                if os.path.isfile(entry.path):
                    yield entry.path
            elif is_folder:
                self._take(entry.path, entry.stat(follow_symlinks=False))
                yield from self._below(entry.path, skip)
            elif entry.is_file(follow_symlinks=False):
                self._take(entry.path, entry.stat(follow_symlinks=False))
                yield entry.path

    def _resolve(self, path: str) -> str:
        """Return *path* with the links that are in the image followed, but for the last part."""
        above, _, name = path.rpartition("/")
        done = ""
        todo = above.split("/")[::-1]
        links = 0
        while todo:
            part = todo.pop()
            if part in ("", "."):
                continue
            if part == "..":
                done = done.rpartition("/")[0]
                continue
            target = self.links.get(f"{done}/{part}")
            if target is None:
                done = f"{done}/{part}"
                continue
            links += 1
            if links > _LINKS:
                raise ImageError(f"{path}: too many symbolic links")
            todo += target.split("/")[::-1]
            done = "" if target.startswith("/") else done
        return f"{done}/{name}"

    def _write_file(
        self, writer: TarWriter, path: str, name: bytes, linked: dict[tuple[int, int], bytes]
    ) -> None:
        status = self.files[path]
        first = linked.setdefault((status.st_dev, status.st_ino), name)
        seconds = int(status.st_mtime)
        mode = stat.S_IMODE(status.st_mode)
        if first != name:
            writer.add(Entry(name, Kind.HARDLINK, mode=mode, mtime_ns=seconds * 10**9, link=first))
            return
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise ImageError(f"{path}: {error.strerror}") from error
        try:
            xattrs = _capability(fd)
            entry = Entry(name, Kind.FILE, mode, size=status.st_size, mtime_ns=seconds * 10**9)
            writer.add(entry._replace(xattrs=xattrs), _pieces(fd))
        except ValueError as error:
            raise ImageError(f"{path}: changed while it was copied") from error
        finally:
            os.close(fd)


def _pieces(fd: int) -> Iterator[bytes]:
    while data := os.read(fd, _PIECE):
        yield data


def _write_made(writer: TarWriter, name: bytes, made: Made) -> None:
    if made.kind is Kind.SYMLINK:
        writer.add(_link(name, made.target))
    else:
        writer.add(Entry(name, made.kind, made.mode, size=len(made.content)), [made.content])


def _link(name: bytes, target: str) -> Entry:
    return Entry(name, Kind.SYMLINK, 0o777, link=os.fsencode(target))


def _capability(fd: int) -> tuple[tuple[str, bytes], ...]:
    """Return the file capabilities of *fd*: ping is of no use without them."""
    try:
        return (("security.capability", os.getxattr(fd, "security.capability")),)
    except OSError:
        return ()
