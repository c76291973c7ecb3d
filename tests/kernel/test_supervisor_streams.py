"""Streams of a container, also those its client holds the other end of, and clients that vanish."""

import os
import select
import signal
from contextlib import closing

import pytest

from runtime.container.program import compile_enter
from runtime.errors import StateError
from runtime.spec import User
from runtime.supervisor.client import Exec
from runtime.supervisor.request import ExecRequest, Logs
from tests.support.reading import read_lines
from tests.support.supervised import Supervised
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kernel

LOUD = (
    "i=0; while [ $((i+=1)) -le 300 ]; do dd if=/dev/zero bs=64k count=1 2>/dev/null; echo; done; "
)
LOUD += "echo err >&2; exit 4"
LOUD_BYTES = 300 * 65537


@pytest.fixture
def host(world):
    host = Supervised(world)
    yield host
    host.close()


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def attached(host: Supervised, id: str, *args: str, terminal: bool = False, **size: int) -> Exec:
    program = compile_enter(host.process(*args, terminal=terminal)).to_json()
    request = ExecRequest(id=id, program=program, terminal=terminal, attached=True, **size)
    return host.client.exec(request)


def read_all(fd: int) -> bytes:
    return b"".join(iter(lambda: os.read(fd, 1 << 20), b""))


def wait_for_process(host: Supervised, *arguments: str) -> None:
    wait_until(lambda: host.processes(*arguments))


def small_log(host: Supervised, id: str) -> Logs:
    return Logs(path=str(host.log_folder(id)), max_size=100_000, max_files=1)


def test_a_follower_gets_every_byte_whatever_the_log_rotates_away(host, pipe):
    out, stdout = pipe
    host.client.launch(host.request("a", LOUD, logs=small_log(host, "a")), stdout=stdout)
    os.close(stdout)
    assert len(read_all(out)) == LOUD_BYTES
    assert host.client.wait("a", 10) == 4
    assert sum(file.stat().st_size for file in host.log_folder("a").iterdir()) < 1_000_000


def test_a_follower_that_leaves_holds_nobody_up(host, pipe):
    out, stdout = pipe
    host.client.launch(host.request("a", LOUD), stdout=stdout)
    os.close(stdout)
    assert os.read(out, 1)
    os.close(out)
    assert host.client.wait("a", 20) == 4
    assert host.lines("a", "stderr") == ["err"]


def test_a_follower_is_kept_over_the_supervisors_death_and_restarts(host, pipe):
    out, stdout = pipe
    script = "echo one; sleep 0.3; echo two; exit 3"
    host.client.launch(host.request("a", script), stdout=stdout)
    os.close(stdout)
    assert read_lines(out) == b"one\n"
    host.kill_supervisor()
    assert read_all(out) == b"two\n"
    assert host.client.wait("a", 10) == 3


def test_a_terminal_has_its_size_from_the_first_moment(host, pipe):
    out, stdout = pipe
    process = {"terminal": True}
    request = host.request(
        "a", "stty size; exec sleep 98764", process=process, terminal=True, rows=33, columns=99
    )
    host.client.launch(request, stdout=stdout)
    assert read_lines(out) == b"33 99\r\n"
    with attached(host, "a", "stty", "size", terminal=True, rows=11, columns=22) as run:
        assert read_lines(run.terminal) == b"11 22\r\n"


def test_an_attached_exec_is_hung_up_when_its_client_vanishes(host):
    host.launch("a", "exec sleep 98764")
    with closing(host.client.events(timeout=10)) as events:
        assert next(events).type == "present"
        with attached(host, "a", "sh", "-c", "sleep 98763; true") as run:
            wait_for_process(host, "sleep", "98763")
            (sleeper,) = host.processes("sleep", "98763")
            of_group = os.pidfd_open(sleeper)
            with pytest.raises(TimeoutError):
                run.wait(0.05)
        ended = next(event for event in events if event.type == "execEnded")
    assert ended.details["exitCode"] == 128 + signal.SIGHUP
    assert select.select([of_group], [], [], 10)[0]  # all of its group have ended
    os.close(of_group)


def test_an_attached_exec_is_waited_for_over_a_supervisors_death(host):
    host.launch("a", "exec sleep 98764")
    with attached(host, "a", "sh", "-c", "sleep 0.4; exit 8") as run:
        host.kill_supervisor()
        assert run.wait(10) == 8


def test_a_signal_reaches_the_whole_group_of_an_exec(host):
    host.launch("a", "exec sleep 98764")
    with attached(host, "a", "sh", "-c", "sleep 98763; true") as run:
        wait_for_process(host, "sleep", "98763")
        run.kill(signal.SIGINT)
        assert run.wait(10) == 128 + signal.SIGINT
    assert not host.processes("sleep", "98763")


def test_a_terminal_is_logged_survives_and_can_be_written_to(host):
    script = "tty; while read x; do echo got $x; done"
    host.launch("a", script, process={"terminal": True}, terminal=True)
    host.wait_line("a", "/dev/pts/0\r")
    host.kill_supervisor()
    terminal = host.client.attach("a")
    os.write(terminal, b"this\n")
    os.close(terminal)
    host.wait_line("a", "got this\r")
    host.client.stop("a", grace=0)
    with pytest.raises(StateError):
        host.client.attach("a")


def test_standard_input_of_the_first_start(host):
    stdin, feed = os.pipe()
    host.client.launch(host.request("a", "cat; echo end"), stdin=stdin)
    os.close(stdin)
    os.write(feed, b"hello\n")
    host.wait_line("a", "hello")
    os.close(feed)
    assert host.client.wait("a", 10) == 0
    assert host.lines("a") == ["hello", "end"]


def test_the_container_may_open_its_streams_again_as_another_user(host):
    host.launch(
        "a",
        "echo a > /dev/stdout; echo b > /proc/self/fd/2",
        uid=12,
        gid=12,
        process={"user": User(12, 12)},
    )
    assert host.client.wait("a", 10) == 0
    assert (host.lines("a"), host.lines("a", "stderr")) == (["a"], ["b"])
