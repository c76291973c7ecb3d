"""What a test host cannot do, whatever is installed on it: the only skips that CI accepts."""

import os
from typing import NoReturn

import pytest

from runtime.supervisor import exits

CANNOT = "this host cannot: "


def cannot(why: str) -> NoReturn:
    """Skip a test for a fact of the kernel, the machine or root's rights here.

    Not for what a package or a command could mend: there, skip plainly, and CI fails.
    """
    pytest.skip(CANNOT + why)


def kernel_tells_exits() -> bool:
    """Tell whether it says how a process has ended that is reaped: Linux 6.15."""
    pid = os.posix_spawn("/bin/true", ["true"], {})
    pidfd = os.pidfd_open(pid)
    try:
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        return exits.recall(pidfd) is not None
    finally:
        os.close(pidfd)
