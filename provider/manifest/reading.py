"""The bytes of files that somebody names: whatever is there, reading it comes to an end."""

import errno
import os
import select
import stat
import time

LIMIT_BYTES = 64 << 20
"""More than manifests, templates, values and lists of variables ever have."""
PIPE_TIMEOUT_S = 120.0
"""Without a byte. What a shell puts in the place of a command takes as long as the command."""
_PIECE = 1 << 20


def read_file(path: str, limit: int = LIMIT_BYTES, *, pipes: bool = False) -> bytes:
    """Return the content; of one that is larger than *limit*, a byte more than that.

    With *pipes* it may be something else than a regular file, as on a command line: a pipe from
    another command, a device.

    Raises:
        OSError: it cannot be read, or nothing comes through the pipe.
    """
    # Not blocking: nobody may ever write to a pipe.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if not (pipes or stat.S_ISREG(mode)):
            raise OSError(errno.EINVAL, "not a regular file", path)
        content = bytearray()
        while len(content) <= limit and (piece := _next(fd, path)):
            content += piece
        return bytes(content[: limit + 1])
    finally:
        os.close(fd)


def _next(fd: int, path: str) -> bytes:
    """Return the next bytes of a file or pipe, none at its end."""
    deadline = time.monotonic() + PIPE_TIMEOUT_S
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    # A pipe that nobody has opened for writing yet reads as if at its end; poll can tell.
    while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        try:
            return os.read(fd, _PIECE)
        except BlockingIOError:
            continue
    raise TimeoutError(
        errno.ETIMEDOUT, f"nothing came through this pipe for {PIPE_TIMEOUT_S:g} s", path
    )
