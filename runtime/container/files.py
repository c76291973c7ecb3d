"""Configs and secrets as files that one container sees: a folder of copies, bind-mounted."""

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from runtime.kernel.replace import naming


def write_files(
    folder: Path, content: Mapping[str, bytes], *, uid: int, gid: int, mode: int
) -> None:
    """Make *folder* hold exactly *content* (file name -> bytes); replaced as a whole.

    A folder that is bind-mounted somewhere must not be passed here: its inode changes.

    Raises:
        ValueError: a name is not a plain file name.
    """
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)
    folder.mkdir(mode=0o700, parents=True)
    for name, data in content.items():
        if "/" in name or name in ("", ".", ".."):
            raise ValueError(f"not a file name: {name!r}")
        write_file(folder / name, data, uid=uid, gid=gid, mode=mode)
    os.chown(folder, uid, gid)
    folder.chmod(mode | (mode & 0o444) >> 2)


def write_file(path: Path, data: bytes, *, uid: int = 0, gid: int = 0, mode: int = 0o644) -> None:
    """Write a new file with that owner and mode from its first byte on."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, 0o600)
    with naming(path), open(fd, "wb") as file:
        os.fchown(fd, uid, gid)
        os.fchmod(fd, mode)
        file.write(data)


def rewrite_file(path: Path, data: bytes) -> None:
    """Replace what is in a file that may be bind-mounted: the inode stays. Not atomic."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, 0o644)
    with naming(path), open(fd, "wb") as file:
        file.truncate(len(data))
        file.write(data)
