"""Files replaced whole: a reader sees the old content or the new one, and so does a crash.

That is: of the writer. What a loss of power leaves is the caller's to choose, as it costs.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress


def replace_file(
    path: str | os.PathLike[str],
    data: bytes,
    *,
    mode: int = 0o600,
    safe: bool = False,
    durable: bool = False,
) -> os.stat_result:
    """Give *path* that content by rename(2), and return the new file's status.

    Its folder must exist. A writer that is killed leaves ``<path>.<random>.<its pid>.tmp``. After a
    loss of power: *durable*, the new content is there; *safe*, the old or the new one; without
    either the file may also be empty, so that is for what can be lost (everything below a run
    folder).

    Raises:
        OSError: nothing has changed; names the file.
    """
    target = os.fspath(path)
    # Random, as another thread, or this pid in another pid namespace, may be writing it, too.
    temporary = f"{target}.{os.urandom(4).hex()}.{os.getpid()}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(temporary, flags, mode)
    except OSError as error:
        error.filename = target
        raise
    try:
        # Whatever the umask is.
        os.fchmod(fd, mode)
        with naming(target):
            write_all(fd, data)
            if safe or durable:
                os.fsync(fd)
        status = os.fstat(fd)
        os.rename(temporary, target)
    except BaseException:  # a signal's, too
        with suppress(FileNotFoundError):  # it was renamed just before
            os.unlink(temporary)
        raise
    finally:
        os.close(fd)
    if durable:
        sync_folder(os.path.dirname(target))
    return status


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Have an OSError inside a ``with`` say which file it is about: that of write(2) does not."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = os.fspath(path)
        raise


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write *data* to the last byte: a disk that fills up takes a part first, then fails."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def sync_folder(path: str | os.PathLike[str]) -> None:
    """Make the names in the folder survive a loss of power."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
