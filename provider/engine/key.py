"""The key of a world, under which secrets are fingerprinted: 32 random bytes, made once."""

import os
from contextlib import suppress
from pathlib import Path

from provider.engine.storage import make_folder, writing


def read_key(state: Path) -> bytes:
    """Return the key; a random one for this process alone where none was made yet.

    With the latter nothing recorded can be compared, but then nothing is recorded. Writes
    nothing.
    """
    try:
        return (state / "key").read_bytes()
    except FileNotFoundError:
        return os.urandom(32)


def ensure_key(state: Path) -> bytes:
    """Return the key, made and durable. Two at once agree on one.

    Raises:
        UnwritableError: there is no space, or the disk is broken.
    """
    path = state / "key"
    if path.exists():
        return path.read_bytes()
    with writing(path):
        _make(path)
    return path.read_bytes()


def _make(path: Path) -> None:
    state = path.parent
    make_folder(state)
    temporary = state / f".key.{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, os.urandom(32))
        os.fsync(fd)
        with suppress(FileExistsError):  # somebody else's is the one
            os.link(temporary, path)
    finally:
        os.close(fd)
        temporary.unlink()
