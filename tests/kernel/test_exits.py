"""How a process has ended, as far as whoever asks may know."""

import os

import pytest

from runtime.supervisor import exits

pytestmark = pytest.mark.kernel
HIDDEN = 99


@pytest.mark.parametrize(
    ("code", "user", "told"), [(0, 0, 0), (7, 0, 7), (0, 65534, HIDDEN), (7, 65534, HIDDEN)]
)
def test_who_may_not_know_is_not_told_zero(code, user, told):
    """The kernel shows everybody else that every process of root's has ended well."""
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", f"exit {code}"], {})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    pidfd = os.pidfd_open(pid)
    asker = os.fork()
    if asker == 0:
        found = None
        try:
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            found = exits.observe(pid, pidfd)
        except PermissionError:
            found = HIDDEN
        finally:
            os._exit(1 if found is None else found)
    _, status = os.waitpid(asker, 0)
    assert os.waitstatus_to_exitcode(status) == told
    os.waitpid(pid, 0)
    os.close(pidfd)
