"""Makes the tar of a layer from a folder; the other direction is `runtime.image.apply`.

Names are sorted, later times can be clamped, nothing of this host enters but the files: the same
tree gives the same bytes. The marks of overlayfs become whiteouts, so the upper folder of a
container packs to the layer that holds its changes.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from runtime.image.folders import FOLDER_FLAGS, is_whiteout
from runtime.image.names import OPAQUE, WHITEOUT
from runtime.image.tarentry import Entry, Kind
from runtime.image.tarwriter import TarWriter
from runtime.kernel.overlayfs import opaque_xattr

_PIECE = 1 << 20
_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFCHR: Kind.CHARACTER,
    stat.S_IFBLK: Kind.BLOCK,
    stat.S_IFDIR: Kind.FOLDER,
    stat.S_IFIFO: Kind.FIFO,
}


def pack_folder(
    folder: Path,
    writer: TarWriter,
    *,
    clamp_s: int | None = None,
    owner: tuple[int, int] | None = None,
) -> None:
    """Write everything below *folder*, its own attributes included; leave *writer* open.

    Times after *clamp_s* become *clamp_s*; *owner* (uid, gid) replaces everyone's. Sockets are
    left out, as a tar cannot hold them. Links are kept and never followed.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file changed its size meanwhile.
    """
    root = os.open(folder, FOLDER_FLAGS)
    try:
        _Packer(writer, clamp_s, owner).folder(root, b"")
    finally:
        os.close(root)


class _Packer:
    def __init__(
        self, writer: TarWriter, clamp_s: int | None, owner: tuple[int, int] | None
    ) -> None:
        self._writer = writer
        self._clamp_ns = None if clamp_s is None else clamp_s * 1_000_000_000
        self._owner = owner
        self._linked: dict[tuple[int, int], bytes] = {}

    def folder(self, fd: int, path: bytes) -> None:
        """Write the folder open as *fd* and all below it."""
        xattrs = dict(_xattrs(fd))
        opaque = xattrs.pop(opaque_xattr(), None) == b"y"
        self._add(path or b"./", os.fstat(fd), Kind.FOLDER, xattrs=_kept(xattrs))
        prefix = path + b"/" if path else b""
        if opaque:
            self._writer.add(Entry(prefix + OPAQUE, mode=0o600))
        for name in sorted(os.fsencode(name) for name in os.listdir(fd)):
            self._member(fd, name, prefix + name)

    def _member(self, parent: int, name: bytes, path: bytes) -> None:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        if is_whiteout(status):
            above, slash, last = path.rpartition(b"/")
            self._writer.add(Entry(above + slash + WHITEOUT + last, mode=0o600))
        elif kind is Kind.FOLDER:
            fd = os.open(name, FOLDER_FLAGS, dir_fd=parent)
            try:
                self.folder(fd, path)
            finally:
                os.close(fd)
        elif kind is not None:
            self._leaf(parent, name, path, status, kind)

    def _leaf(
        self, parent: int, name: bytes, path: bytes, status: os.stat_result, kind: Kind
    ) -> None:
        if status.st_nlink > 1:
            first = self._linked.setdefault((status.st_dev, status.st_ino), path)
            if first != path:
                self._add(path, status, Kind.HARDLINK, link=first)
                return
        if kind is Kind.SYMLINK:
            self._add(path, status, kind, link=os.readlink(name, dir_fd=parent))
        elif kind is Kind.FILE:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            try:
                xattrs = _kept(dict(_xattrs(fd)))
                self._add(path, status, kind, fd=fd, xattrs=xattrs)
            finally:
                os.close(fd)
        else:
            self._add(path, status, kind)

    def _add(
        self,
        path: bytes,
        status: os.stat_result,
        kind: Kind,
        *,
        link: bytes = b"",
        fd: int | None = None,
        xattrs: tuple[tuple[str, bytes], ...] = (),
    ) -> None:
        mtime_ns = status.st_mtime_ns
        if self._clamp_ns is not None:
            mtime_ns = min(mtime_ns, self._clamp_ns)
        uid, gid = self._owner or (status.st_uid, status.st_gid)
        device = kind in (Kind.CHARACTER, Kind.BLOCK)
        entry = Entry(
            path=path,
            kind=kind,
            mode=stat.S_IMODE(status.st_mode),
            uid=uid,
            gid=gid,
            size=0 if fd is None else status.st_size,
            mtime_ns=mtime_ns,
            link=link,
            major=os.major(status.st_rdev) if device else 0,
            minor=os.minor(status.st_rdev) if device else 0,
            xattrs=xattrs,
        )
        self._writer.add(entry, () if fd is None else read_file(fd))


def read_file(fd: int) -> Iterator[bytes]:
    """Yield the content of *fd* from where it stands."""
    while data := os.read(fd, _PIECE):
        yield data


def _xattrs(fd: int) -> Iterator[tuple[str, bytes]]:
    for name in os.listxattr(fd):
        yield name, os.getxattr(fd, name)


def _kept(xattrs: dict[str, bytes]) -> tuple[tuple[str, bytes], ...]:
    """Return what belongs to the files and not to this host."""
    return tuple(
        sorted(
            (name, value)
            for name, value in xattrs.items()
            if name == "security.capability"
            or (name.startswith("user.") and not name.startswith("user.overlay."))
        )
    )
