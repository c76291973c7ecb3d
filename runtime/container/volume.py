"""Named volumes: one folder each below ``state/volumes``, kept until somebody says otherwise.

::

    volumes/<id>/meta.json     who owns it
    volumes/<id>/data/         what containers see
"""

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from runtime.errors import ContainerError, NotFoundError
from runtime.kernel.mount import MS_PRIVATE, MS_REC, mount
from runtime.kernel.namespaces import CLONE_NEWNS, unshare
from runtime.root import Root
from runtime.rootfs.overlay import mount_overlay
from runtime.rootfs.resolve import open_in_root
from runtime.spec import from_json, to_json


@dataclass(frozen=True, slots=True)
class Volume:
    """One named volume; *mark* says whose it is (see runtime.container.config)."""

    id: str
    mark: dict[str, str] = field(default_factory=dict)
    populated: bool = False
    """It already got what an image holds at its target, or was used without; never again."""


def data_folder(root: Root, volume_id: str) -> Path:
    """Return where the content lives; made by ensure_volume."""
    return root.state / "volumes" / volume_id / "data"


def read_volume(root: Root, volume_id: str) -> Volume:
    """Return the volume as recorded.

    Raises:
        NotFoundError: there is no record of it; its folder may still exist.
    """
    path = root.state / "volumes" / volume_id / "meta.json"
    try:
        return from_json(Volume, json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise NotFoundError(f"no volume {volume_id}") from None


def list_volumes(root: Root) -> Iterator[Volume]:
    """Yield every recorded volume, by id."""
    with suppress(FileNotFoundError):
        for name in sorted(os.listdir(root.state / "volumes")):
            with suppress(NotFoundError):
                yield read_volume(root, name)


def ensure_volume(
    root: Root,
    volume: Volume,
    *,
    uid: int | None = None,
    gid: int | None = None,
    mode: int | None = None,
) -> None:
    """Make the folder and its record; idempotent; owner and mode are set where given."""
    folder = root.state / "volumes" / volume.id
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    data = folder / "data"
    data.mkdir(mode=0o755, exist_ok=True)
    if uid is not None or gid is not None:
        os.chown(data, -1 if uid is None else uid, -1 if gid is None else gid)
    if mode is not None:
        data.chmod(mode)
    with suppress(NotFoundError):
        known = read_volume(root, volume.id)
        volume = Volume(volume.id, volume.mark, populated=known.populated or volume.populated)
    write_record(root, volume)


def write_record(root: Root, volume: Volume) -> None:
    """Replace the volume's record; atomic."""
    path = root.state / "volumes" / volume.id / "meta.json"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(to_json(volume)))
    temporary.chmod(0o600)
    temporary.rename(path)


def delete_volume(root: Root, volume_id: str) -> None:
    """Remove the volume and all it holds; idempotent."""
    with suppress(FileNotFoundError):
        shutil.rmtree(root.state / "volumes" / volume_id)


def populate(root: Root, volume: Volume, layers: Sequence[str], target: str) -> None:
    """Copy what the image made of *layers* holds at *target* into an empty, new volume.

    Owner, mode, times, links and extended attributes are kept. Happens once in the life of a
    volume; one that already holds something is left alone.

    Raises:
        ContainerError: the copy failed; the volume is emptied again.
    """
    data = data_folder(root, volume.id)
    if volume.populated or any(data.iterdir()):
        return
    child = os.fork()
    if child == 0:
        _copy_in_child(data, layers, target)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, _NOTHING_THERE):
        for entry in data.iterdir():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        raise ContainerError(
            f"cannot copy {target} of the image into volume {volume.id}: cp exited with {code}"
        )
    write_record(root, Volume(volume.id, volume.mark, populated=True))


_NOTHING_THERE = 90


def _copy_in_child(data: Path, layers: Sequence[str], target: str) -> None:
    """Mount the image where only this process sees it, and copy; never returns.

    Leaves with the exit code of cp(1), or _NOTHING_THERE.
    """
    code = 91
    try:
        destination = os.open(data, os.O_PATH | os.O_DIRECTORY)
        root = layers[0]
        if len(layers) > 1:
            unshare(CLONE_NEWNS)
            mount(None, "/", None, MS_REC | MS_PRIVATE)
            root = str(data.parent)
            mount_overlay(layers, None, None, target=root)
        root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
        try:
            source = open_in_root(root_fd, target, os.O_PATH | os.O_DIRECTORY)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                raise
            code = _NOTHING_THERE
            return
        code = subprocess.run(
            [
                "cp",
                "-a",
                "--reflink=auto",
                f"/proc/self/fd/{source}/.",
                f"/proc/self/fd/{destination}/",
            ],
            pass_fds=(source, destination),
            check=False,
        ).returncode
    finally:
        os._exit(code)
