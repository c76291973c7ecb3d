"""How a process has ended, as far as whoever asks may know."""

import os

import pytest

from runtime.supervisor import exits

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("code", [0, 7])
@pytest.mark.parametrize("user", [0, 65534])
def test_who_may_not_know_is_not_told_zero(code, user):
    """The kernel shows everybody else that every process of root's has ended well."""
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", f"exit {code}"], {})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    pidfd = os.pidfd_open(pid)
    asker = os.fork()
    if asker == 0:
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        found = exits.observe(pid, pidfd)
        os._exit(99 if found is None else found)
    _, status = os.waitpid(asker, 0)
    assert os.waitstatus_to_exitcode(status) == (99 if user else code)
    os.waitpid(pid, 0)
    os.close(pidfd)
