"""Whatever is said in the name of a launch's child ends that launch, and nothing else."""

import json
import os
import pty
import signal
import socket
from contextlib import contextmanager

import pytest

from runtime.errors import LaunchError
from runtime.kernel.bare import socket as bare_socket
from runtime.kernel.program import Program
from runtime.supervisor.launch import Launch

FORKS = Program(0, (("fork",), ("console", True, 0), ("exec", (), ())))
BAD = {
    "no JSON": b"{",
    "no object": b"[1]",
    "no UTF-8": b"\xff\xfe\xfd\xfc\xfb",
    "nested": b"[" * 60_000,
    "empty": b"{}",
    "unknown": b'{"x": 1}',
    "two things": b'{"warning": "x", "terminal": true}',
    "error and more": b'{"error": "x", "exitCode": 1, "terminal": true}',
    "error alone": b'{"error": "x"}',
    "error that is none": b'{"error": ["x"], "exitCode": 1}',
    "huge exit code": b'{"error": "x", "exitCode": 100000}',
    "warning that is none": b'{"warning": 1}',
    "ready with what": b'{"ready": {}}',
    "half a sibling": b'{"sibling":}',
    "word": b'"sibling"',
    "other word": b'"forked"',
    "sibling beyond": b'{"sibling": 100000000000000000000000}',
    "sibling below": b'{"sibling": -1}',
    "group of siblings": b'{"sibling": 0}',
    "sibling that is true": b'{"sibling": true}',
    "sibling in half": b'{"sibling": 1.5}',
    "sibling of very many": b'{"sibling": ' + b"9" * 5000 + b"}",
    "forked and is none": b'{"forked": true}',
    "false": b'{"forked": false}',
    "errno beyond": b"\xff\xff\xff\xff",
    "no errno": bytes(4),
    "nobody waits": b'{"waiting": true}',
    "nobody answers": b'{"stop": "runtime"}',
    "nobody listens": b'{"listener": true}',
    "terminal that is none": b'{"terminal": true}',
    "nothing": b"",
}


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@contextmanager
def forked(act):
    """Yield the pid of a child that does *act* and then stands still, or has been collected."""
    pid = os.fork()
    if pid == 0:
        try:
            act()
            signal.pause()
        finally:
            os._exit(1)
    try:
        yield pid
    finally:
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


@contextmanager
def launch_of(pid: int, program: Program = FORKS):
    """Yield a launch whose child *pid* is, and the channel on which that would speak."""
    mine, theirs = bare_socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    mine.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    mine.setblocking(False)
    launch = Launch(pid, os.pidfd_open(pid), mine, program, admit=lambda _pid: None)
    with socket.socket(fileno=theirs.detach()) as channel:
        channel.setblocking(False)
        yield launch, channel
    for fd in launch.leave():
        os.close(fd)


def nothing() -> None:
    """Be a child that says nothing."""


def send(channel: socket.socket, data: bytes, fds: int) -> None:
    socket.send_fds(channel, [data], [0] * fds) if fds else channel.send(data)


@pytest.mark.parametrize("fds", [0, 1, 2])
@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_what_nobody_says_ends_the_launch_and_leaves_no_descriptor(data, fds):
    before = descriptors()
    with forked(nothing) as pid, launch_of(pid) as (launch, channel):
        send(channel, data, fds)
        with pytest.raises(LaunchError):
            launch.advance()
        launch.kill()
        send(channel, data, fds)
        assert launch.drain() == (data == b"")
        channel.close()
        assert launch.drain()
    assert descriptors() == before


def test_words_come_with_no_descriptor():
    before = descriptors()
    for data in (b'{"warning": "x"}', b'{"ready": "/x"}', b'{"error": "x", "exitCode": 126}'):
        with forked(nothing) as pid, launch_of(pid) as (launch, channel):
            send(channel, data, 1)
            with pytest.raises(LaunchError, match="1 descriptors"):
                launch.advance()
    assert descriptors() == before


def test_it_has_one_terminal_if_it_has_to_have_one():
    master, slave = pty.openpty()
    before = descriptors()
    said = b'{"terminal": true}'
    for program, sent in ((Program(0, ()), [master]), (FORKS, [slave]), (FORKS, [master, master])):
        with forked(nothing) as pid, launch_of(pid, program) as (launch, channel):
            for fd in sent:
                socket.send_fds(channel, [said], [fd])
            with pytest.raises(LaunchError, match="terminal"):
                launch.advance()
    assert descriptors() == before
    os.close(master)
    os.close(slave)


def test_no_more_is_kept_than_a_program_can_say():
    with forked(nothing) as pid, launch_of(pid) as (launch, channel):
        warning = json.dumps({"warning": "x" * 50_000}).encode()
        for _ in range(2 * (len(FORKS.operations) + 1)):
            channel.send(warning)
            assert launch.advance() is None
        channel.send(warning)
        with pytest.raises(LaunchError, match="says more than"):
            launch.advance()
        # Nor does it hold up the end.
        channel.send(b'{"warning": "x"}')
        assert launch.drain()


@pytest.mark.parametrize("forks", [True, False], ids=["that has forked", "that never forks"])
def test_a_child_names_nobody_else_s_process_as_its_sibling(forks):
    """That would be killed with it, whosever it is."""
    program = FORKS if forks else Program(0, ())
    with forked(nothing) as other, forked(nothing) as first:
        mine, theirs = bare_socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        mine.setblocking(False)

        def speak() -> None:
            if forks:
                theirs.send(b'{"forked": true}')
            theirs.send(json.dumps({"sibling": other}).encode())
            os._exit(0)

        with forked(speak) as pid:
            theirs.close()
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            child = first if forks else pid
            launch = Launch(child, os.pidfd_open(child), mine, program, admit=lambda _pid: None)
            with pytest.raises(LaunchError, match="died before it got to exec"):
                launch.advance()
            launch.kill()
            assert launch.pid == pid
            for fd in launch.leave():
                os.close(fd)
        assert os.waitid(os.P_PID, other, os.WEXITED | os.WNOHANG) is None
