"""Named volumes: one folder each below ``state/volumes``, kept until somebody says otherwise.

::

    volumes/<id>/meta.json     who owns it
    volumes/<id>/data/         what containers see; always the same folder
    volumes/<id>/incoming/     what becomes of an image's files, half copied
    volumes/<id>/arrived/      those files, whole; what of them is not in data/ yet
    volumes/<id>/lock          held by who changes any of these, and by its cp
    volumes/.removed-<id>/     one that is being deleted
"""

import errno
import fcntl
import os
import shutil
import stat
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from runtime.container.config import ContainerConfig, list_configs
from runtime.container.folders import bury, clear
from runtime.container.making import making
from runtime.documents import parse_state
from runtime.errors import ConflictError, ContainerError, DamagedError, NotFoundError, StateError
from runtime.json_data import from_json, to_json
from runtime.kernel.flock import flock_within, leave_note, read_note
from runtime.kernel.replace import sync_folder
from runtime.kernel.sync import syncfs
from runtime.network.files import write_json
from runtime.record import dataclass, field
from runtime.root import Root
from runtime.rootfs.overlay import opened_overlay
from runtime.rootfs.resolve import open_in_root

_GRAVE = ".removed-"
_FRESH_MODE = 0o755
_WAIT_S = 600.0
"""For another's copy, which may be large; its cp may also hang on a dead disk."""


@dataclass(frozen=True, slots=True)
class Volume:
    """One named volume; *mark* says whose it is (see runtime.container.config)."""

    id: str
    mark: dict[str, str] = field(default_factory=dict)
    populated: bool = False
    """It already got what an image holds at its target, or was used without; never again."""
    uid: int | None = None
    """What its folder is to have; None is the image's, and then what containers make of it."""
    gid: int | None = None
    mode: int | None = None


def data_folder(root: Root, volume_id: str) -> Path:
    """Return where the content lives; made by ensure_volume."""
    return root.state / "volumes" / volume_id / "data"


def record_file(root: Root, volume_id: str) -> Path:
    """Return where the volume's record is."""
    return root.state / "volumes" / volume_id / "meta.json"


def folders(root: Root) -> list[Path]:
    """Return the folders of all volumes, recorded or not, by id."""
    found = (root.state / "volumes").glob("*")
    return sorted(path for path in found if not path.name.startswith(_GRAVE))


def read_volume(root: Root, volume_id: str) -> Volume:
    """Return the volume as recorded.

    Raises:
        NotFoundError: there is no record of it; its folder may still exist.
        DamagedError: the record cannot be read back.
    """
    path = record_file(root, volume_id)
    try:
        return from_json(Volume, parse_state(path, path.read_bytes()))
    except FileNotFoundError:
        raise NotFoundError(f"no volume {volume_id}") from None


def list_volumes(root: Root) -> Iterator[Volume]:
    """Yield every recorded volume, by id; without those whose record is damaged."""
    for folder in folders(root):
        with suppress(NotFoundError, DamagedError):
            yield read_volume(root, folder.name)


def ensure_volume(root: Root, volume: Volume) -> None:
    """Make the folder and its record; idempotent; owner and mode are set where given.

    Raises:
        ConflictError: somebody copies into it, and does not come to an end.
    """
    folder = root.state / "volumes" / volume.id
    data = folder / "data"
    with making(root):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            data.mkdir()
            data.chmod(_FRESH_MODE)
        with _locked(folder, timeout_s=_WAIT_S):
            _own(data, volume)
            with suppress(NotFoundError):
                known = read_volume(root, volume.id)
                volume = replace(volume, populated=known.populated or volume.populated)
            write_record(root, volume)


def write_record(root: Root, volume: Volume) -> None:
    """Replace the volume's record, also for after a loss of power."""
    write_json(record_file(root, volume.id), to_json(volume), durable=True)


def delete_volume(
    root: Root, volume_id: str, configs: Iterable[ContainerConfig] | None = None
) -> None:
    """Remove the volume and all it holds; idempotent. Killed in the middle, none of it is left.

    Then ``half_deleted`` has it; beside the others, for they may be on a disk of their own.
    *configs* are those of all containers, for who has read them.

    Raises:
        StateError: containers have it mounted; names them. What is lost already may go.
    """
    folder = root.state / "volumes" / volume_id
    if (folder / "data").is_dir():
        if configs is None:
            configs = list_configs(root, skip_damaged=True)
        users = sorted(config.name for config in configs if is_mounted(root, volume_id, config))
        if users:
            raise StateError(f"cannot delete volume {volume_id}: used by {', '.join(users)}")
    bury(folder, folder.with_name(_GRAVE + volume_id))


def is_mounted(root: Root, volume_id: str, config: ContainerConfig) -> bool:
    """Tell whether the container of *config* has the volume, or a part of it, whenever it runs."""
    folder = root.state / "volumes" / volume_id
    sources = [mount.source for mount in config.spec.mounts if mount.source]
    return any(Path(source).is_relative_to(folder) for source in sources)


def half_deleted(root: Root) -> list[Path]:
    """Return the folders of volumes whose deletion has begun, and has yet to be finished."""
    return sorted((root.state / "volumes").glob(f"{_GRAVE}*"))


def prepare(
    root: Root, volume_id: str, layers: Sequence[str], target: str, *, copy: bool = True
) -> None:
    """Make the volume ready for a container that is yet to be started.

    The first one decides, however many ask at once: with *copy*, an empty volume gets what the
    image made of *layers* holds at *target*. Owner, mode, times, links and extended attributes
    are kept, those of the top folder too where the record gives none. Without, the volume stays
    as it is. Then this never happens again: there may be somebody at work in it.

    Killed in the middle, or the power lost, the next one goes on: the copy is made beside the
    volume, and moved in once it is whole, and on disk.

    Raises:
        ContainerError, KernelError: the copy failed; the volume is as it was.
        ConflictError: somebody else copies into it, and does not come to an end.
        NotFoundError: there is no such volume.
    """
    folder = root.state / "volumes" / volume_id
    data, incoming, arrived = folder / "data", folder / "incoming", folder / "arrived"
    with _locked(folder, timeout_s=_WAIT_S) as lock:
        volume = read_volume(root, volume_id)
        if volume.populated:
            return
        if copy and not arrived.exists() and not any(data.iterdir()):
            clear(incoming)
            incoming.mkdir(mode=0o755)
            # Its folder is no secret: somebody may have put something there meanwhile.
            if _copy(layers, target, incoming, lock) and not any(data.iterdir()):
                syncfs(lock)
                incoming.rename(arrived)
            clear(incoming)
        if arrived.exists():
            _move_in(arrived, data, volume)
        write_record(root, replace(volume, populated=True))


def _move_in(arrived: Path, data: Path, volume: Volume) -> None:
    """Make *data* what *arrived* is; the folder stays: a shell or a mount may be in it."""
    for path in list(arrived.iterdir()):
        if not os.path.lexists(data / path.name):  # what somebody else put there stays
            path.rename(data / path.name)
    before, after = data.stat(), arrived.stat()
    # A version before did not record what the manifest gives, but it gave it to the folder.
    os.chown(data, before.st_uid or after.st_uid, before.st_gid or after.st_gid)
    shutil.copystat(arrived, data)
    if stat.S_IMODE(before.st_mode) != _FRESH_MODE:
        data.chmod(stat.S_IMODE(before.st_mode))
    _own(data, volume)
    sync_folder(data)
    clear(arrived)
    sync_folder(data.parent)


def _own(data: Path, volume: Volume) -> None:
    """Give the folder the owner and the mode of the record, where that has any."""
    if volume.uid is not None or volume.gid is not None:
        os.chown(
            data,
            -1 if volume.uid is None else volume.uid,
            -1 if volume.gid is None else volume.gid,
        )
    if volume.mode is not None:
        data.chmod(volume.mode)


def half_copied(root: Root) -> Iterator[Path]:
    """Yield the copies into volumes that nobody is at work on any more."""
    for found in list_volumes(root):
        folder = root.state / "volumes" / found.id
        if (folder / "incoming").is_dir() and not _is_locked(folder):
            yield folder / "incoming"


def drop_half_copied(root: Root) -> None:
    """Remove the copies that were never finished; the next populate starts over."""
    for incoming in half_copied(root):
        # Somebody is at it, or it has gone with its volume.
        with suppress(ConflictError, FileNotFoundError), _locked(incoming.parent, timeout_s=0):
            clear(incoming)


@contextmanager
def _locked(folder: Path, *, timeout_s: float) -> Iterator[int]:
    """Hold the volume's lock; yield its descriptor."""
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not flock_within(fd, fcntl.LOCK_EX, timeout_s):
            raise ConflictError(
                f"volume {folder.name} is being filled by {read_note(fd)}, for {timeout_s:g} s"
            )
        leave_note(fd, f"process {os.getpid()}")
        yield fd
    finally:
        os.close(fd)


def _is_locked(folder: Path) -> bool:
    try:
        fd = os.open(folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not flock_within(fd, fcntl.LOCK_EX, 0)
    finally:
        os.close(fd)


def _copy(layers: Sequence[str], target: str, destination: Path, lock: int) -> bool:
    """Copy the folder *target* of the image; return False if it has none there."""
    # The volume's own folder, out of anybody's sight, serves as the mount point.
    place = str(destination.parent / "data")
    with opened_overlay(layers, place) as image:
        return _copy_from(image, target, destination, lock)


def _copy_from(image: int, target: str, destination: Path, lock: int) -> bool:
    try:
        source = open_in_root(image, target, os.O_PATH | os.O_DIRECTORY)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return False
        raise
    # It outlives us if we are killed: with the lock, so that nobody copies beside it.
    try:
        copying = subprocess.Popen(
            ["cp", "-a", "--reflink=auto", f"/proc/self/fd/{source}/.", f"{destination}/"],
            pass_fds=(source, lock),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        os.close(source)
    with copying:
        leave_note(lock, f"process {copying.pid} (cp)")
        _, said = copying.communicate()
    if copying.returncode:
        reason = said.strip() or f"cp exited with {copying.returncode}"
        raise ContainerError(f"cannot copy {target} of the image into the volume: {reason}")
    return True
