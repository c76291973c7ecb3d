"""The interpreter out of containers' reach.

A process of ours that enters a container can be made to run its own executable there, and that
file can then be opened for writing through /proc/<pid>/exe (CVE-2019-5736; a program starting
with ``#!/proc/self/exe`` is one way). So the supervisor runs from a sealed copy in memory, which
nobody can write to, and which is nobody else's Python.

No ctypes here: `runtime.cli` pays for what this imports at each start, before it starts again
from the copy.
"""

import errno
import fcntl
import os
import sys

from runtime.errors import KernelError
from runtime.kernel import mask

MFD_EXEC = 0x10
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def sealed_program(name: str, content: bytes) -> int:
    """Return a memfd of *content* that can be executed, but never again written.

    The caller closes it; it closes on exec, too.
    """
    fd = _executable_memfd(name)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def sealed_interpreter(python: str = sys.executable) -> int:
    """Return a sealed copy of *python*, or of what runs this; for ``os.execve(fd, argv, env)``.

    argv[0] must be *python*: it finds its library by that.
    """
    program = os.open(os.path.realpath(python), os.O_RDONLY | os.O_CLOEXEC)
    fd = _executable_memfd("bayplan")
    try:
        left = os.fstat(program).st_size
        while left:
            left -= os.sendfile(fd, program, None, left)  # never through our own memory
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    finally:
        os.close(program)
    return fd


def is_sealed() -> bool:
    """Return whether the running program is such a copy already."""
    with open("/proc/self/exe", "rb") as file:
        try:
            return fcntl.fcntl(file, fcntl.F_GET_SEALS) == _SEALS
        except OSError as error:
            if error.errno != errno.EINVAL:  # EINVAL: not a memfd
                raise
            return False


def _executable_memfd(name: str) -> int:
    # MFD_EXEC must be said where vm.memfd_noexec is 1, and is unknown before Linux 6.3.
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        try:
            if not mask.is_masked(mask.MFD_EXEC):
                return os.memfd_create(name, flags | MFD_EXEC)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        return os.memfd_create(name, flags)
    except OSError as error:
        raise KernelError(error.errno or 0, "memfd_create", name) from error
