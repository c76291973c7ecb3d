"""Programs run beside a container's own, as its supervisor's clients see them."""

import os
import signal

import pytest

from runtime.errors import LaunchError, NotFoundError
from tests.support.reading import read_lines
from tests.support.supervised import Supervised

pytestmark = pytest.mark.kernel


@pytest.fixture
def host(world):
    host = Supervised(world)
    yield host
    host.close()


def test_exec_gives_the_clients_own_descriptors(host):
    host.launch("a", "exec sleep 98764")
    stdin, feed = os.pipe()
    out, stdout = os.pipe()
    with host.enter(
        "a", "sh", "-c", "read x; echo got $x; exit 9", fds=(stdin, stdout, stdout)
    ) as run:
        os.close(stdin)
        os.close(stdout)
        os.write(feed, b"this\n")
        assert read_lines(out) == b"got this\n"
        assert run.wait(10) == 9
    assert os.read(out, 1) == b""
    os.close(feed)
    os.close(out)
    with host.enter("a", "sleep", "98763") as run:
        with pytest.raises(TimeoutError):
            run.wait(0.05)
        run.kill()
        assert run.wait(10) == 137
    with pytest.raises(LaunchError):
        host.enter("a", "no-such-thing")
    with pytest.raises(NotFoundError):
        host.enter("b", "true")


def test_exec_on_a_terminal_hangs_up_with_its_client(host):
    host.launch("a", "exec sleep 98764")
    script = "tty; read x; stty size; exec cat"
    with host.enter("a", "sh", "-c", script, terminal=True) as run:
        assert read_line(run.terminal).startswith(b"/dev/pts/")
        run.resize(30, 90)
        os.write(run.terminal, b"x\n")
        assert read_line(run.terminal) == b"x\r\n"
        assert read_line(run.terminal) == b"30 90\r\n"
        run.close()
        assert run.wait(10) == 128 + signal.SIGHUP


def test_exec_without_a_terminal_outlives_its_client(host):
    host.launch("a", "exec sleep 98764")
    run = host.enter("a", "sh", "-c", "sleep 0.3; exit 5")
    del run
    known = next(e for e in host.client.events(timeout=10) if e.type == "execEnded")
    assert known.details["exitCode"] == 5


def test_exec_is_waited_for_over_a_supervisors_death(host):
    host.launch("a", "exec sleep 98764")
    with host.enter("a", "sh", "-c", "sleep 0.4; exit 8") as run:
        host.kill_supervisor()
        assert run.wait(10) == 8
    events = host.client.events(timeout=10)
    assert next(events).type == "present"
    with host.enter("a", "sh", "-c", "exit 6") as run:
        while next(events).type != "execEnded":
            pass
        # It has ended, and was collected, before anybody asked.
        host.kill_supervisor()
        assert run.wait(10) == 6
        with pytest.raises(NotFoundError):
            run.wait(10)
    events.close()


def read_line(fd):
    line = b""
    while not line.endswith(b"\n"):
        line += os.read(fd, 1)
    return line
