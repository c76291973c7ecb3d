"""Processes of ours, and the interpreter out of containers' reach.

A process of ours that enters a container can be made to run its own executable there, and that
file can then be opened for writing through /proc/<pid>/exe (CVE-2019-5736; a program starting
with ``#!/proc/self/exe`` is one way). So the supervisor runs from a sealed copy in memory, which
nobody can write to, and which is nobody else's Python; and a command, for which a copy takes too
long, from a read-only view of the file that is mounted nowhere.

Little is imported here: `runtime.cli` pays for it at each start, before it starts again.
"""

import errno
import fcntl
import os
import sys

import runtime
from runtime.errors import KernelError
from runtime.kernel import mask
from runtime.kernel.mount import (
    FSCONFIG_CMD_CREATE,
    FSCONFIG_SET_STRING,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    fsconfig,
    fsmount,
    fsopen,
)

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

    argv[0] must be *python*: it finds its library by that. The caller closes it; it closes on exec.
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


def read_only_interpreter() -> int:
    """Return what runs this on a file system that takes no writes, as `sealed_interpreter` does.

    It is an overlay of the folder that Python is in, without an upper one: nothing makes that
    writable, and remounting takes a mount one can name. A tenth of what a copy takes. Where no
    overlay can be had (an old kernel, a user without rights, Python on another overlay of an
    overlay), it is a copy. For short-lived processes only: whoever writes over Python's file in
    place instead of replacing it, writes into this.
    """
    folder, name = os.path.split(os.path.realpath(sys.executable))
    try:
        mounted = _overlay(folder)
    except KernelError:
        return sealed_interpreter()
    try:
        return os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=mounted)
    finally:
        os.close(mounted)


def _overlay(folder: str) -> int:
    """Return a detached, read-only overlay of *folder*."""
    # The kernel wants two; one with nothing of that name in it does no harm.
    lowers = (folder, os.path.dirname(os.path.abspath(__file__)))
    if mask.is_masked(mask.OVERLAY_OF_PYTHON) or any(set(each) & set(":\\,") for each in lowers):
        raise KernelError(errno.EINVAL, "fsopen", "overlay")
    context = fsopen("overlay")
    try:
        fsconfig(context, FSCONFIG_SET_STRING, "lowerdir", ":".join(lowers))
        fsconfig(context, FSCONFIG_CMD_CREATE)
        return fsmount(context, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
    finally:
        os.close(context)


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


def is_out_of_reach() -> bool:
    """Return whether the running program is one of the two already."""
    with open("/proc/self/exe", "rb") as file:
        try:
            return fcntl.fcntl(file, fcntl.F_GET_SEALS) == _SEALS
        except OSError as error:
            if error.errno != errno.EINVAL:  # EINVAL: not a memfd
                raise
        if not os.fstatvfs(file.fileno()).f_flag & os.ST_RDONLY:
            return False
        try:
            named = os.stat(os.readlink("/proc/self/exe"))
        except FileNotFoundError:
            return True  # mounted nowhere
        return not os.path.samestat(named, os.fstat(file.fileno()))


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
