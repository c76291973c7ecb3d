"""Processes of ours, and the interpreter out of containers' reach.

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

import runtime
from runtime.errors import KernelError
from runtime.kernel import mask

MFD_EXEC = 0x10
_BOOT = "import sys; sys.path.append(sys.argv[1]); from {module} import main; main(sys.argv[2:])"
_SEAL_TRIES = 20
"""Each waits for 150 ms in the kernel."""
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
        _seal(fd)
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
        _seal(fd)
    except BaseException:
        os.close(fd)
        raise
    finally:
        os.close(program)
    return fd


def _seal(fd: int) -> None:
    """Let nobody write to a memfd any more.

    The kernel answers EBUSY while pages just written are still in the hands of another processor
    (memfd_wait_for_pins in mm/memfd.c), which is soon over, but on a busy host not at once.
    """
    for _ in range(_SEAL_TRIES):
        try:
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
        else:
            return
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)


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


class Code:
    """What a process of ours runs: Python, and the folder that the package is in."""

    __slots__ = ("folder", "python")

    def __init__(self, python: str, folder: str) -> None:
        self.python = python
        self.folder = folder

    def command(self, module: str, *arguments: str) -> list[str]:
        """Return the argv of a process that calls ``main(arguments)`` of *module*.

        Nothing is on its path but Python's library and us.
        """
        boot = _BOOT.format(module=module)
        return [self.python, "-I", "-S", "-c", boot, self.folder, *arguments]


def own_code() -> Code:
    """Return what this process runs."""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(runtime.__file__)))
    return Code(sys.executable, folder)


def command(module: str, *arguments: str) -> list[str]:
    """Return the argv of a process of this very code; see `Code.command`."""
    return own_code().command(module, *arguments)
