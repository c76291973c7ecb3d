"""A process, held by a descriptor: its number may be another one's by now, that is not.

Source: pidfd_open(2).
"""

from __future__ import annotations

import errno
import os

from runtime.kernel.procfs import is_running


def pidfd_open(pid: int) -> int:
    """Return a descriptor of a process, as the system call does; it closes on exec.

    Raises:
        ProcessLookupError: there is none of that pid. Older kernels (6.1) say EINVAL where its
            number is still that of a process group or session others are in.
    """
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno != errno.EINVAL or pid <= 0:
            raise
        raise _none() from error


def open_running(pid: int, start: int) -> int:
    """Return a descriptor of the process of that pid that started at *start* ticks after boot.

    Raises:
        ProcessLookupError: it has ended.
    """
    pidfd = pidfd_open(pid)
    try:
        # Opened first, then looked at: the descriptor is of the right process or of none.
        if not is_running(pid, start):
            raise _none()
    except BaseException:
        os.close(pidfd)
        raise
    return pidfd


def _none() -> ProcessLookupError:
    return ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
