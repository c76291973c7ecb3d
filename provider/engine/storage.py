"""Small files that are replaced whole: written beside, then renamed over the old one."""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from provider.errors import ApplyError, DamagedError
from provider.model.tree import Tree

FILE_MODE = 0o600
FOLDER_MODE = 0o700
_FREES_SPACE = "`bayplan rm -f --override` works on a full disk"


class UnwritableError(ApplyError):
    """The engine's own files cannot be written: the disk is full, or broken."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Word what the operating system has against writing *path* inside a ``with``.

    Raises:
        UnwritableError: instead of OSError.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        mend = f"free space there ({_FREES_SPACE})" if full else "mend that"
        raise UnwritableError(
            f"{path} cannot be written: {error.strerror}",
            hint=f"{mend} and do the same again: what was begun is taken up then",
            retryable=True,
        ) from error


def make_folder(folder: Path) -> None:
    """Make *folder* and what is missing above it, private to root. Idempotent."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)


def write_json(path: Path, tree: Tree, *, sync: bool = False) -> None:
    """Replace *path*: atomic for readers, and after a crash the old file or the new one.

    After a loss of power as well with *sync*, which waits for the disk; else that may leave an
    empty file until ``sync_file``. The folder must exist. Pure ASCII: names of files, which need
    not be text, are in it.
    """
    # Not json.dump, which is pure Python and ten times slower.
    data = json.dumps(tree, separators=(",", ":")).encode()
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
    try:
        with open(fd, "wb") as stream:
            stream.write(data)
            if sync:
                stream.flush()
                os.fsync(fd)
        os.rename(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def read_json(path: Path) -> Any:
    """Return the content of *path*.

    Raises:
        FileNotFoundError: there is none.
        DamagedError: it is empty, or no JSON.
    """
    with open(path, "rb") as stream:
        data = stream.read()
    try:
        return json.loads(data)
    except ValueError:  # of UTF-8, too
        how = "not JSON" if data.strip(b"\0 \n") else "empty"
        raise DamagedError(str(path), how) from None


def damaged_files(state: Path, project: str) -> Iterator[DamagedError]:
    """Yield the damaged files of the project's ledger and history. Reads only."""
    for folder in ("resources", "revisions"):
        for path in sorted((state / "projects" / project / folder).glob("[!.]*.json")):
            try:
                read_json(path)
            except FileNotFoundError:  # deleted by an apply at work
                continue
            except DamagedError as error:
                yield error


def sync_file(path: Path) -> None:
    """Make *path* (a file or a folder) survive a power loss; nothing if it is gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
