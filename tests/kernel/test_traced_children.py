"""Children that have ended, and whose tracer has not let them go."""

import ctypes
import os
import select
import signal
import time

import pytest

from runtime.supervisor.loop import Loop
from runtime.supervisor.spawn import collect

pytestmark = pytest.mark.kernel

_SEIZE = 0x4206


def test_one_is_collected_when_it_can_be_and_keeps_nobody_busy():
    pid = os.posix_spawn("/bin/sleep", ["sleep", "1000"], {})
    read, write = os.pipe()
    tracer = os.fork()
    if tracer == 0:
        ctypes.CDLL(None).ptrace(_SEIZE, pid, None, None)
        os.write(write, b"x")
        signal.pause()
        os._exit(0)
    os.read(read, 1)
    pidfd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    assert select.select([pidfd], [], [], 20)[0]
    loop, codes = Loop(), []
    collect(loop, pidfd, lambda code: (codes.append(code), loop.stop()))
    before = time.process_time()

    def let_go():
        assert (codes, time.process_time() - before < 0.5) == ([], True)
        os.kill(tracer, signal.SIGKILL)
        os.waitpid(tracer, 0)

    loop.call_later(1.0, let_go)
    loop.call_later(20.0, loop.stop)
    loop.run()
    assert codes == [-signal.SIGKILL]
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    loop.close()
    os.close(read)
    os.close(write)
