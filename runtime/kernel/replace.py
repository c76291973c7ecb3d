"""Files replaced whole: a reader sees the old content or the new one, and so does a crash."""

import os


def replace_file(
    path: str | os.PathLike[str], data: bytes, *, mode: int = 0o600, durable: bool = False
) -> os.stat_result:
    """Give *path* that content by rename(2), and return the new file's status.

    Its folder must exist. A writer that is killed leaves ``<path>.<its pid>.tmp``. *durable*: it
    also survives a loss of power right after; without, the old or the new content does.

    Raises:
        OSError: nothing has changed.
    """
    target = os.fspath(path)
    temporary = f"{target}.{os.getpid()}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        # Whatever the umask is.
        os.fchmod(fd, mode)
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        if durable:
            os.fsync(fd)
        status = os.fstat(fd)
        os.rename(temporary, target)
    except OSError:
        os.unlink(temporary)
        raise
    finally:
        os.close(fd)
    if durable:
        folder = os.open(os.path.dirname(target), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return status
