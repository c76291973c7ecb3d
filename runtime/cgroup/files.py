"""Reads and writes of cgroup files.

Files are opened without O_CREAT: a name the kernel does not offer must be an error, also where
a test puts a plain folder in the kernel's place. O_TRUNC is ignored by the kernel.
"""

import os
from errno import ENODEV, ENOENT

from runtime.errors import KernelError


def read(path: str) -> str:
    """Return the content of *path* without the last newline.

    Raises:
        KernelError: it is not there (ENOENT, ENODEV when the group goes away meanwhile) or not
            readable.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError(error.errno or 0, "open", path) from error
    try:
        data = block = os.read(fd, 4096)
        # A kernel file answers by the page, possibly less; only nothing is the end. Most files
        # hold one short line, for which the second read would be half of the cost.
        while block and not (len(data) < 1024 and data.endswith(b"\n")):
            block = os.read(fd, 65536)
            data += block
    except OSError as error:
        raise KernelError(error.errno or 0, "read", path) from error
    finally:
        os.close(fd)
    return data.decode().rstrip("\n")


def read_if_there(path: str) -> str | None:
    """Return the content of *path*, None if there is no such file or group."""
    try:
        return read(path)
    except KernelError as error:
        if is_gone(error):
            return None
        raise


def write(path: str, *values: str) -> None:
    """Put each of *values* into *path* by a system call of its own, stopping at the first error.

    Raises:
        KernelError: the kernel refused a value; its text names value and file.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError(error.errno or 0, "open", path) from error
    try:
        for value in values:
            try:
                os.write(fd, value.encode())
            except OSError as error:
                raise KernelError(error.errno or 0, "write", f"{value} -> {path}") from error
    finally:
        os.close(fd)


def is_gone(error: OSError) -> bool:
    """Tell whether *error* means that the file or its group does not exist (any more)."""
    return error.errno in (ENOENT, ENODEV)


def table(text: str) -> dict[str, int]:
    """Return a flat keyed file (``name value`` lines) as a dict."""
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if value.isdecimal():
            found[name] = int(value)
    return found
