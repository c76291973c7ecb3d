"""How a process ended, from whoever can tell.

Codes are as the keeper's: 0 to 255 for an exit, minus the signal for a death by signal.
"""

import errno
import fcntl
import os
import struct
from contextlib import suppress

from runtime.kernel import mask
from runtime.kernel.procfs import read_stat

# struct pidfd_info of linux/pidfd.h: mask (u64), cgroupid (u64), eleven u32, exit_code (s32).
_PIDFD_INFO = struct.Struct("=QQ11Ii")
_PIDFD_INFO_EXIT = 1 << 3
_PIDFS_IOCTL_MAGIC = 0xFF
_READ_WRITE = 3
_PIDFD_GET_INFO = _READ_WRITE << 30 | _PIDFD_INFO.size << 16 | _PIDFS_IOCTL_MAGIC << 8 | 11


def peek(pidfd: int) -> int | None:
    """Return the code of an ended child without reaping it; None while it runs.

    Raises:
        ChildProcessError: it is not (or no longer) a child of this process.
    """
    ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def reap(pidfd: int) -> None:
    """Collect an ended child."""
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)


def recall(pidfd: int) -> int | None:
    """Return the code of a process somebody else has reaped; None if the kernel cannot tell.

    Linux 6.15 and later tell, if *pidfd* was opened before the process ended.
    """
    if mask.is_masked(mask.PIDFD_INFO_EXIT):
        return None
    buffer = bytearray(_PIDFD_INFO.pack(_PIDFD_INFO_EXIT, *[0] * 13))
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, buffer)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTTY, errno.ESRCH):
            raise
        return None
    told, *_, status = _PIDFD_INFO.unpack(buffer)
    return os.waitstatus_to_exitcode(status) if told & _PIDFD_INFO_EXIT else None


def observe(pid: int, pidfd: int) -> int | None:
    """Return the code of an ended process nobody has reaped yet; None if there is no such.

    Its parent may be an init that takes its time.

    Raises:
        PermissionError: it has ended, and this process may not know how: the kernel says zero.
    """
    stat = read_stat(pid)
    if stat is None:
        return None
    # Asked afterwards: while its number is not -1 it was not reaped, so that was its file.
    with open(f"/proc/self/fdinfo/{pidfd}", "rb", buffering=0) as file:
        same = b"\nPid:\t%d\n" % pid in file.read()
    if not same or stat.state != "Z":
        return None
    if stat.exit_status == 0:
        _must_be_allowed(pid)
    return os.waitstatus_to_exitcode(stat.exit_status)


def _must_be_allowed(pid: int) -> None:
    """Raise PermissionError unless this process may read such things of *pid*."""
    # Asks for the same right (PTRACE_MODE_READ_FSCREDS), of dead ones too. A kernel may be without.
    with (
        suppress(FileNotFoundError, ProcessLookupError),
        open(f"/proc/{pid}/io", "rb", buffering=0) as file,
    ):
        file.read(1)


def shell_code(code: int) -> int:
    """Return *code* as a shell would: 128 + n for signal n."""
    return code if code >= 0 else 128 - code


def oom_kills(path: str) -> int:
    """Return the ``oom_kill`` count in a memory.oom_control or memory.events file, 0 if none."""
    with suppress(OSError), open(path, encoding="ascii") as file:
        for line in file:
            key, _, value = line.partition(" ")
            if key == "oom_kill":
                return int(value)
    return 0
