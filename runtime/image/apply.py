"""Puts the entries of one layer into an empty folder, in the form overlayfs wants.

The folder is one layer of an overlay, not a whole root: a whiteout becomes a character device
0:0 and an opaque folder gets an attribute (`runtime.kernel.overlayfs`). No entry can reach outside
the folder: see `runtime.image.folders` for names, and note that files are made with O_EXCL and
O_NOFOLLOW in a folder we hold open.

Folders are 0700 while we work and get their owner, mode and time at the end: a set-group-id bit
cannot pass on, and times survive what is put into them.

Sources: OCI image-spec layer.md; kernel Documentation/filesystems/overlayfs.rst, "whiteouts and
opaque directories".
"""

import errno
import os
import shutil
import stat
from pathlib import Path

from runtime.errors import ImageError, LayerError
from runtime.image.applied import Applied
from runtime.image.folders import FOLDER_FLAGS, Folders, is_whiteout
from runtime.image.limits import DEFAULT_LIMITS, Limits
from runtime.image.names import OPAQUE, WHITEOUT, show_name, split_name, whited_out
from runtime.image.tarentry import Entry, Kind
from runtime.image.tarreader import TarReader
from runtime.kernel.overlayfs import opaque_xattr
from runtime.kernel.procfs import is_confined, last_id
from runtime.record import dataclass

_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# The fault of the host and not of the layer.
_HOST_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE})
_REFUSALS = (OSError, OverflowError, ValueError)


@dataclass(slots=True)
class _Folder:
    """What a folder gets at the end."""

    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    xattrs: tuple[tuple[str, bytes], ...] = ()
    opaque: bool = False
    implicit: bool = True


def apply_layer(
    reader: TarReader,
    folder: Path,
    *,
    limits: Limits = DEFAULT_LIMITS,
    inherit: "dict[str, os.stat_result] | None" = None,
) -> Applied:
    """Unpack one layer into *folder*, which exists and is empty.

    Later entries replace earlier ones of the same name; a whiteout never hides what the same
    layer brings. *inherit* tells owner and mode of folders the layer does not describe.
    *folder* is half filled on error.

    Raises:
        LayerError: malformed, over a limit, or an entry would leave the folder.
        ImageError: the host cannot hold it: no space, read-only.
    """
    root = os.open(folder, FOLDER_FLAGS)
    try:
        layer = _Layer(reader, root, limits, inherit or {})
        try:
            return layer.apply()
        finally:
            layer.folders.close()
    finally:
        os.close(root)


class _Layer:
    def __init__(
        self, reader: TarReader, root: int, limits: Limits, inherit: dict[str, os.stat_result]
    ) -> None:
        self.folders = Folders(root, self._make_implicit, depth=limits.depth)
        self._reader = reader
        self._inherit = inherit
        self._attributes: dict[bytes, _Folder] = {b"": _Folder()}
        self._devices: list[str] = []
        self._dropped: list[str] = []
        self._owner = (os.geteuid(), os.getegid())
        self._umask = _umask()
        self._confined = is_confined()
        self._last_ids = (last_id("uid"), last_id("gid"))

    def apply(self) -> Applied:
        entries = size = 0
        for entry in self._reader:
            entries += 1
            size += entry.size
            try:
                self._put(entry)
            except _REFUSALS as error:
                raise _blame(entry.path, error) from error
        for path in sorted(self._attributes, reverse=True):
            try:
                self._settle(path, self._attributes[path])
            except _REFUSALS as error:
                raise _blame(path, error) from error
        return Applied(
            entries,
            size,
            tuple(self._devices),
            tuple(self._dropped),
            tuple(sorted(os.fsdecode(p) for p, f in self._attributes.items() if f.implicit and p)),
            self._attributes[b""].opaque,
        )

    def _put(self, entry: Entry) -> None:
        above, slash, name = entry.path.rpartition(b"/")
        if not slash:
            above = b""
        if name in (b"", b".", b".."):
            parts = split_name(entry.path)
            if not parts:
                self._put_root(entry)
                return
            above, name = b"/".join(parts[:-1]), parts[-1]
        if entry.uid > self._last_ids[0] or entry.gid > self._last_ids[1]:
            raise ImageError(self._unmapped(entry))
        fd, path = self.folders.find(above)
        if name.startswith(WHITEOUT):
            self._put_whiteout(fd, path, name)
            return
        full = path + b"/" + name if path else name
        if entry.kind is Kind.FILE:
            self._put_file(fd, name, full, entry)
        elif entry.kind is Kind.FOLDER:
            self._put_folder(fd, name, full, entry)
        elif entry.kind is Kind.HARDLINK:
            self._put_hardlink(fd, name, full, entry)
        elif entry.kind is Kind.SYMLINK:
            self._put_symlink(fd, name, full, entry)
        else:
            self._put_node(fd, name, full, entry)

    def _unmapped(self, entry: Entry) -> str:
        most = " and ".join(map(str, sorted(set(self._last_ids))))
        return (
            f"{show_name(entry.path)}: belongs to {entry.uid}:{entry.gid}, and this user has ids up"
            f" to {most} only; more can be granted in /etc/subuid and /etc/subgid"
        )

    # One method per kind of entry

    def _put_root(self, entry: Entry) -> None:
        if entry.kind is not Kind.FOLDER:
            raise LayerError(f"the root of a layer cannot be a {entry.kind.value}")
        self._describe(b"", entry)

    def _put_file(self, parent: int, name: bytes, full: bytes, entry: Entry) -> None:
        try:
            fd = os.open(name, _FILE_FLAGS, entry.mode & 0o777, dir_fd=parent)
        except FileExistsError:
            parent = self._clear(parent, name, full)
            fd = os.open(name, _FILE_FLAGS, entry.mode & 0o777, dir_fd=parent)
        try:
            self._reader.copy(fd, entry)
            # In this order: a change of owner takes set-user-id away, a write the capabilities.
            if (entry.uid, entry.gid) != self._owner:
                os.fchown(fd, entry.uid, entry.gid)
            if entry.mode & (0o7000 | self._umask):
                os.fchmod(fd, entry.mode)
            if entry.xattrs:
                self._set_xattrs(fd, full, entry.xattrs)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)

    def _put_folder(self, parent: int, name: bytes, full: bytes, entry: Entry) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                self._make_folder(parent, name, full, replaced=status)
        self._describe(full, entry)

    def _put_hardlink(self, parent: int, name: bytes, full: bytes, entry: Entry) -> None:
        parts = split_name(entry.link)
        if not parts:
            raise LayerError(f"{show_name(entry.path)}: hard link to the root")
        source, path = self.folders.find(b"/".join(parts[:-1]))
        if path == full.rpartition(b"/")[0] and parts[-1] == name:
            raise LayerError(f"{show_name(entry.path)}: hard link to itself")
        try:
            os.link(parts[-1], name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        except FileExistsError:
            self._put_hardlink(self._clear(parent, name, full), name, full, entry)
        except FileNotFoundError:
            raise LayerError(
                f"{show_name(entry.path)}: hard link to {show_name(entry.link)},"
                " which is not in the layer"
            ) from None

    def _put_symlink(self, parent: int, name: bytes, full: bytes, entry: Entry) -> None:
        try:
            os.symlink(entry.link, name, dir_fd=parent)
        except FileExistsError:
            parent = self._clear(parent, name, full)
            os.symlink(entry.link, name, dir_fd=parent)
        self._finish_special(parent, name, full, entry)

    def _put_node(self, parent: int, name: bytes, full: bytes, entry: Entry) -> None:
        kind = {
            Kind.CHARACTER: stat.S_IFCHR,
            Kind.BLOCK: stat.S_IFBLK,
            Kind.FIFO: stat.S_IFIFO,
        }[entry.kind]
        if not (0 <= entry.major < 1 << 12 and 0 <= entry.minor < 1 << 20):
            raise LayerError(f"{show_name(entry.path)}: device number out of range")
        device = 0 if kind == stat.S_IFIFO else os.makedev(entry.major, entry.minor)
        if self._confined and device:
            # Nobody could make it, nor open it; what a container gets in /dev is there anyway.
            self._dropped.append(f"{os.fsdecode(full)} device")
            return
        try:
            os.mknod(name, kind | 0o600, device, dir_fd=parent)
        except FileExistsError:
            parent = self._clear(parent, name, full)
            os.mknod(name, kind | 0o600, device, dir_fd=parent)
        if kind != stat.S_IFIFO:
            letter = "c" if kind == stat.S_IFCHR else "b"
            self._devices.append(f"{letter} {entry.major}:{entry.minor} {os.fsdecode(full)}")
        os.chmod(_through(parent, name), entry.mode)
        self._finish_special(parent, name, full, entry)

    def _put_whiteout(self, parent: int, path: bytes, name: bytes) -> None:
        if name == OPAQUE:
            self._attributes.setdefault(path, _Folder()).opaque = True
            return
        hidden = whited_out(name)
        if hidden is None:
            return
        full = path + b"/" + hidden if path else hidden
        try:
            os.mknod(hidden, stat.S_IFCHR, 0, dir_fd=parent)
        except FileExistsError:
            # What is there came with this layer and stays; of a folder below only our part.
            if full in self._attributes:
                self._attributes[full].opaque = True

    # What they share

    def _describe(self, full: bytes, entry: Entry) -> None:
        """Remember what folder *full* gets at the end; later descriptions win."""
        folder = self._attributes.setdefault(full, _Folder())
        folder.mode, folder.uid, folder.gid = entry.mode, entry.uid, entry.gid
        folder.mtime_ns, folder.xattrs = entry.mtime_ns, entry.xattrs
        folder.implicit = False

    def _make_implicit(self, parent: int, name: bytes, full: bytes) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
            self._attributes[full] = _Folder()
        except FileExistsError:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            self._make_folder(parent, name, full, replaced=status)

    def _make_folder(
        self, parent: int, name: bytes, full: bytes, *, replaced: os.stat_result
    ) -> None:
        os.unlink(name, dir_fd=parent)
        os.mkdir(name, 0o700, dir_fd=parent)
        if stat.S_ISLNK(replaced.st_mode):
            self.folders.forget()
        # A name deleted and made again as a folder must not show the old folder's content.
        self._attributes[full] = _Folder(opaque=is_whiteout(replaced))

    def _clear(self, parent: int, name: bytes, full: bytes) -> int:
        """Remove what has *name*; return the parent's descriptor, which may be a new one."""
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode):
            os.unlink(name, dir_fd=parent)
            # Names kept open may have gone through this link.
            if not stat.S_ISLNK(status.st_mode):
                return parent
        else:
            shutil.rmtree(name, dir_fd=parent)
            below = full + b"/"
            for path in [p for p in self._attributes if p == full or p.startswith(below)]:
                del self._attributes[path]
        self.folders.forget()
        return self.folders.find(full.rpartition(b"/")[0])[0]

    def _finish_special(self, parent: int, name: bytes, full: bytes, entry: Entry) -> None:
        if (entry.uid, entry.gid) != self._owner:
            os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
            if entry.mode & 0o7000 and entry.kind is not Kind.SYMLINK:
                os.chmod(_through(parent, name), entry.mode)
        for key, _ in entry.xattrs:
            self._dropped.append(f"{os.fsdecode(full)} {key}")
        times = (entry.mtime_ns, entry.mtime_ns)
        os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)

    def _set_xattrs(self, fd: int, full: bytes, xattrs: tuple[tuple[str, bytes], ...]) -> None:
        for key, value in xattrs:
            # Only what a program in the container may rely on; above all nothing of overlayfs,
            # whose redirects would point into other layers.
            known = key == "security.capability" or key.startswith("user.")
            try:
                if not known or key.startswith("user.overlay."):
                    raise OSError(errno.ENOTSUP, "not kept")
                os.setxattr(fd, key, value)
            except OSError as error:
                if error.errno not in (errno.ENOTSUP, errno.E2BIG, errno.ERANGE):
                    raise
                self._dropped.append(f"{os.fsdecode(full)} {key}")

    def _settle(self, path: bytes, folder: _Folder) -> None:
        if folder.implicit and (known := self._inherit.get(os.fsdecode(path))) is not None:
            folder.mode = stat.S_IMODE(known.st_mode)
            folder.uid, folder.gid = known.st_uid, known.st_gid
            folder.mtime_ns = known.st_mtime_ns
        above, _, name = path.rpartition(b"/")
        parent, _ = self.folders.find(above)
        fd = os.open(name or b".", FOLDER_FLAGS, dir_fd=parent)
        try:
            if (folder.uid, folder.gid) != self._owner:
                os.fchown(fd, folder.uid, folder.gid)
            self._set_xattrs(fd, path, folder.xattrs)
            if folder.opaque and path:
                os.setxattr(fd, opaque_xattr(), b"y")
            os.fchmod(fd, folder.mode)
            os.utime(fd, ns=(folder.mtime_ns, folder.mtime_ns))
        finally:
            os.close(fd)


def _blame(path: bytes, error: Exception) -> ImageError:
    """Return the system's refusal as an error that names the entry."""
    code = error.errno if isinstance(error, OSError) else None
    reason = error.strerror if isinstance(error, OSError) else str(error)
    kind = ImageError if code in _HOST_ERRNOS else LayerError
    return kind(f"{show_name(path)}: cannot unpack: {reason}")


def _through(parent: int, name: bytes) -> bytes:
    """Return a path to *name* in the open folder *parent*, for calls that take no dir_fd."""
    return b"/proc/self/fd/%d/%s" % (parent, name)


def _umask() -> int:
    """Return the bits open(2) would take away; asking by umask(2) would race with threads."""
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"Umask:"):
                return int(line.split()[1], 8)
    return 0o777
