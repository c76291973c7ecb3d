"""Layers as folders: each unpacked once, shared by all images and containers that have it.

``layers/<hex of diff id>/fs`` is what overlayfs takes, ``layer.json`` beside it what we learned.
A layer appears by rename, complete, or not at all; two processes that want the same one wait for
each other on the blob's own lock.

Files are not synced one by one (for 30,000 of them that costs more than unpacking). Instead the
marker carries the boot it was made in, until there was time to reach the disk or the host went down
in order; of an earlier boot, which may have ended in a crash, it is unpacked again from its blob,
which is synced.

A layer that uses folders it does not describe (``a/b`` without ``a/``) depends on what lies below
it. Where the plain defaults would be wrong, that combination gets a folder of its own.
"""

import fcntl
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runtime.errors import ConflictError, ImageError
from runtime.image import marker
from runtime.image.applied import Applied
from runtime.image.blobs import BlobStore
from runtime.image.digest import hex_of
from runtime.image.folders import FOLDER_FLAGS
from runtime.image.lock import TEMPORARY, StoreLock, create_temporary_folder, writer_of
from runtime.image.marker import is_written_back, read_marker
from runtime.image.model import Descriptor
from runtime.kernel.flock import flock_within
from runtime.kernel.procfs import boot_id
from runtime.kernel.replace import replace_file
from runtime.kernel.sync import syncfs
from runtime.record import dataclass, replace

_WAIT_S = 600.0
"""For another who unpacks the same layer, which may be large."""


@dataclass(frozen=True, slots=True)
class UnpackedLayer:
    """One layer folder; *name* is its place in ``layers/``."""

    name: str
    diff_id: str
    applied: Applied
    boot: str
    """Boot it was made in; empty once its files are surely on the disk."""


class LayerFolders:
    """The folders below *folder*; the store's lock guards their coming and going."""

    def __init__(self, folder: Path, blobs: BlobStore, lock: StoreLock) -> None:
        self.folder = folder
        self._blobs = blobs
        self._lock = lock

    def prepare(self) -> None:
        """Make the folder. Idempotent."""
        self.folder.mkdir(0o700, exist_ok=True)

    def ensure(self, layers: Sequence[Descriptor], diff_ids: Sequence[str]) -> tuple[str, ...]:
        """Return the folders of *layers*, lowest first, unpacking what is missing.

        Raises:
            ImageError: the image does not fit together, or a blob is damaged or missing.
            LayerError: a layer is damaged or hostile.
            ConflictError: somebody else unpacks one, and does not come to an end.
        """
        if len(layers) != len(diff_ids):
            raise ImageError(f"image has {len(layers)} layers but {len(diff_ids)} diff ids")

        def unpacked(
            number: int, name: str, inherit: dict[str, os.stat_result] | None
        ) -> UnpackedLayer:
            return self._ensure_one(layers[number], diff_ids[number], name, inherit=inherit)

        return self._stacked(diff_ids, unpacked) or ()

    def present(self, diff_ids: Sequence[str]) -> tuple[str, ...] | None:
        """Return what `ensure` would where it has nothing to unpack, else None. Reads only."""
        return self._stacked(diff_ids, lambda _number, name, _inherit: self.find(name))

    def _stacked(
        self,
        diff_ids: Sequence[str],
        get: Callable[[int, str, dict[str, os.stat_result] | None], UnpackedLayer | None],
    ) -> tuple[str, ...] | None:
        """Return the folders *get* gives for one layer after the other, by number and name."""
        folders: list[str] = []
        for number, diff_id in enumerate(diff_ids):
            layer = get(number, hex_of(diff_id), None)
            if layer is not None and (wrong := _inherited(layer.applied.implicit, folders)):
                layer = get(number, variant_name(diff_ids[: number + 1]), wrong)
            if layer is None:
                return None
            if layer.applied.opaque_root:
                folders.clear()
            folders.append(str(self.folder / layer.name / "fs"))
        return tuple(folders)

    def paths(self) -> tuple[Path, ...]:
        """Return every complete layer folder."""
        if not self.folder.exists():
            return ()
        found = (path for path in self.folder.iterdir() if not path.name.startswith(TEMPORARY))
        return tuple(sorted(found))

    def find(self, name: str) -> UnpackedLayer | None:
        """Return the layer folder *name*, None if it is not there or did not survive a crash."""
        tree = read_marker(self.folder / name)
        if tree is None:
            return None
        applied: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in tree.pop("applied").items()
        }
        return UnpackedLayer(applied=Applied(**applied), **tree)

    def settle(self, names: Iterable[str]) -> None:
        """Note of these layers that they are on the disk, where the kernel had time for that."""
        with self._lock.shared():
            for found in filter(None, map(self.find, names)):
                self._settle(found)

    def settle_all(self) -> None:
        """Have all layers written to the disk: where the host goes down, and comes up again.

        Raises:
            KernelError: they could not be.
        """
        if not self.paths():
            return  # nor need there be a lock
        with self._lock.shared():
            layers = [self.find(path.name) for path in self.paths()]
            fresh = [layer for layer in layers if layer is not None and layer.boot]
            if not fresh:
                return
            fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                syncfs(fd)
            finally:
                os.close(fd)
            for layer in fresh:
                self._write_settled(layer)

    def _ensure_one(
        self,
        layer: Descriptor,
        diff_id: str,
        name: str,
        *,
        inherit: dict[str, os.stat_result] | None = None,
    ) -> UnpackedLayer:
        with self._lock.shared():
            found = self.find(name)
            if found is not None:
                os.utime(self.folder / name)  # a sweep spares what was used just now
        if found is not None:
            self._settle(found)
            return found
        with self._blobs.open_file(layer.digest) as file:
            # Who unpacks the same layer at the same time waits here and then finds it done.
            if not flock_within(file.fileno(), fcntl.LOCK_EX, _WAIT_S):
                writer = writer_of(self.folder, hex_of(diff_id))
                raise ConflictError(
                    f"layer {diff_id} is being unpacked by {writer}, for {_WAIT_S:g} s"
                )
            return self.find(name) or self._unpack(layer, diff_id, name, inherit)

    def _unpack(
        self,
        layer: Descriptor,
        diff_id: str,
        name: str,
        inherit: dict[str, os.stat_result] | None,
    ) -> UnpackedLayer:
        # Imported when used: most runs unpack nothing.
        from runtime.image.apply import apply_layer
        from runtime.image.limits import DEFAULT_LIMITS
        from runtime.image.stream import open_layer
        from runtime.image.tarreader import TarReader

        with self._lock.shared():
            temporary, fd = create_temporary_folder(self.folder, label=name)
        try:
            root = temporary / "fs"
            root.mkdir(0o755)
            with open_layer(self._blobs, layer, diff_id, limit=DEFAULT_LIMITS.bytes) as pieces:
                applied = apply_layer(TarReader(pieces), root, inherit=inherit)
                for _ in pieces:  # to the end, where the digests are checked
                    pass
            unpacked = UnpackedLayer(name, diff_id, applied, boot_id())
            _write_marker(temporary, unpacked)
            self._publish(temporary, name)
            return unpacked
        finally:
            if temporary.exists():
                shutil.rmtree(temporary)
            os.close(fd)

    def _publish(self, temporary: Path, name: str) -> None:
        target = self.folder / name
        with self._lock.shared():
            if target.exists():
                # Not usable, or `find` had returned it. Nothing runs from it: whoever starts a
                # container has such layers unpacked again before.
                target.rename(temporary.with_name(f"{temporary.name}-old"))
            temporary.rename(target)
        shutil.rmtree(temporary.with_name(f"{temporary.name}-old"), ignore_errors=True)

    def _settle(self, found: UnpackedLayer) -> None:
        """Note that the kernel has had time to write the layer to the disk."""
        folder = self.folder / found.name
        if not found.boot or not is_written_back(folder):
            return
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # Several containers of one image start at once: one of them is enough.
            if flock_within(fd, fcntl.LOCK_EX, 0) and is_written_back(folder):
                self._write_settled(found)
        finally:
            os.close(fd)

    def _write_settled(self, layer: UnpackedLayer) -> None:
        _write_marker(self.folder / layer.name, replace(layer, boot=""))


def folder_names(diff_ids: Sequence[str]) -> tuple[str, ...]:
    """Return every folder name the layers of an image may be unpacked under."""
    names = [hex_of(diff_id) for diff_id in diff_ids]
    names += [variant_name(diff_ids[: number + 1]) for number in range(len(diff_ids))]
    return tuple(names)


def variant_name(chain: Sequence[str]) -> str:
    """Return the folder name of the last layer of *chain* where it depends on those below it."""
    below = hashlib.sha256("\n".join(chain[:-1]).encode()).hexdigest()
    return f"{hex_of(chain[-1])}-{below[:16]}"


def _write_marker(folder: Path, layer: UnpackedLayer) -> None:
    tree = {"version": marker.VERSION, **asdict(layer)}
    replace_file(folder / marker.NAME, json.dumps(tree).encode())


def _inherited(implicit: Sequence[str], lower: Sequence[str]) -> dict[str, os.stat_result]:
    """Return what the undescribed folders *implicit* are in the layers below.

    Empty if the defaults (root's, 0755) are right for all of them.
    """
    found = {}
    differs = False
    for path in implicit:
        for folder in reversed(lower):
            status = _look(folder, path)
            if status is None:
                continue
            if stat.S_ISDIR(status.st_mode):
                found[path] = status
                plain = (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
                differs |= plain != (0o755, 0, 0)
            break
    return found if differs else {}


def _look(folder: str, path: str) -> os.stat_result | None:
    """Return what *path* is in a layer, following no link."""
    fd = os.open(folder, FOLDER_FLAGS)
    try:
        *above, name = path.split("/")
        for part in above:
            below = os.open(part, FOLDER_FLAGS, dir_fd=fd)
            os.close(fd)
            fd = below
        return os.stat(name, dir_fd=fd, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    finally:
        os.close(fd)
