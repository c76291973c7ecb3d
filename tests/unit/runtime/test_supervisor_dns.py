"""The DNS process as the supervisor sees it: it cannot be started, dies, or is stuck."""

import os
import signal
import socket
from types import SimpleNamespace

import pytest

from runtime.errors import NetworkError
from runtime.supervisor import dns
from runtime.supervisor.dns import DnsServer
from runtime.supervisor.names import Home
from tests.support.looping import is_collected, run_until
from tests.support.stuck import stuck

ADDRESS = f"127.53.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
OTHER = f"127.54.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"


@pytest.fixture
def make(loop, tmp_path, monkeypatch):
    """Make servers of the same world, one after the other."""
    monkeypatch.setattr(dns, "PORT", 25353)
    monkeypatch.setattr(dns, "_AGAIN_S", 0.05)
    made = []

    def make() -> DnsServer:
        home = Home(str(tmp_path), str(tmp_path), "c")
        made.append(DnsServer(SimpleNamespace(loop=loop, home=home)))
        return made[-1]

    yield make
    for server in made:
        pid = server.pid
        server.forget()
        run_until(loop, lambda pid=pid: not pid or is_collected(pid))


@pytest.fixture
def spawned(monkeypatch):
    """``pids`` of processes started; None where there could be none, as said by ``fail(when)``."""
    real, pids, failures = os.posix_spawn, [], []

    def spawn(*words, **options):
        if failures:
            failures.pop()
            pids.append(None)
            raise BlockingIOError(11, "Resource temporarily unavailable")
        pids.append(real(*words, **options))
        return pids[-1]

    monkeypatch.setattr(os, "posix_spawn", spawn)
    return SimpleNamespace(pids=pids, fail=failures.append)


def is_served(address):
    """A question that is none makes the server hang up; without a server nothing happens."""
    with socket.create_connection((address, dns.PORT), timeout=5) as connection:
        connection.sendall(b"\0\1x")
        return connection.recv(1) == b""


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def test_one_that_cannot_be_started_is_told_and_started_later(make, loop, spawned):
    server = make()
    before = descriptors()
    spawned.fail("once")
    with pytest.raises(NetworkError, match="Resource temporarily unavailable"):
        server.listen((ADDRESS,))
    assert descriptors() == before + 2  # where questions wait
    run_until(loop, lambda: server.pid)
    assert is_served(ADDRESS)


def test_who_asks_again_is_told_the_truth_again(make, spawned):
    server = make()
    spawned.fail("once")
    spawned.fail("twice")
    for _ in range(2):
        with pytest.raises(NetworkError):
            server.listen((ADDRESS,))
    server.listen((ADDRESS,))
    assert server.pid
    assert is_served(ADDRESS)


def test_a_successor_that_cannot_be_started_is_tried_again(make, loop, spawned, capfd):
    server = make()
    server.listen((ADDRESS,))
    spawned.fail("once")
    os.kill(server.pid, signal.SIGKILL)
    run_until(loop, lambda: None in spawned.pids and server.pid)
    assert is_served(ADDRESS)
    assert "trying again" in capfd.readouterr().err


def test_what_cannot_be_taken_over_yet_is_later(make, loop, spawned, capfd):
    first = make()
    first.listen((ADDRESS, OTHER))
    first.end()
    second = make()
    spawned.fail("once")
    second.adopt()
    run_until(loop, lambda: second.pid)
    assert sorted(second.addresses) == [ADDRESS, OTHER]
    assert "trying again" in capfd.readouterr().err


def test_one_that_was_not_handed_all_is_replaced(make, loop, spawned, monkeypatch):
    server = make()
    server.listen((OTHER,))
    first, real, calls, before = server.pid, os.dup, [], descriptors()

    def dup(fd):
        calls.append(fd)
        if len(calls) == 2:
            raise OSError(24, "Too many open files")
        return real(fd)

    monkeypatch.setattr(os, "dup", dup)
    with pytest.raises(NetworkError, match="Too many open files"):
        server.listen((ADDRESS,))
    run_until(loop, lambda: server.pid not in (0, first) and is_collected(first))
    assert is_served(ADDRESS)
    assert is_served(OTHER)
    run_until(loop, lambda: descriptors() == before + 2)


def test_what_cannot_be_remembered_is_not_kept(make, monkeypatch):
    server = make()
    with monkeypatch.context() as patch:

        def full(_path, _data):
            raise OSError(28, "No space left on device")

        patch.setattr(dns, "replace_file", full)
        with pytest.raises(NetworkError, match="No space left on device"):
            server.listen((ADDRESS,))
    assert server.addresses == ()
    server.listen((ADDRESS,))
    assert is_served(ADDRESS)


def test_who_asks_before_a_successor_is_due_gets_the_only_one(make, loop, spawned):
    server = make()
    server.listen((ADDRESS,))
    os.kill(server.pid, signal.SIGKILL)
    run_until(loop, lambda: not server.pid)
    server.listen((OTHER,))
    due = []
    loop.call_later(2 * dns._AGAIN_S, lambda: due.append(True))
    run_until(loop, lambda: due)
    assert len(spawned.pids) == 2
    assert is_served(ADDRESS)
    assert is_served(OTHER)


def test_nobody_waits_for_one_that_survives_its_end(make, loop):
    server = make()
    server.listen((ADDRESS,))
    pid = server.pid
    with stuck(pid) as is_there:
        server.close((ADDRESS,))
        assert server.pid == 0
        assert is_there()
    run_until(loop, lambda: is_collected(pid))
