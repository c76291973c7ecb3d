"""The probe process as the supervisor sees it: it dies, or does not answer; others do not pay."""

import os
import signal
import socket
import threading
from contextlib import suppress

import pytest

from runtime.supervisor.loop import Loop
from runtime.supervisor.probe_process import ProbeProcess
from runtime.supervisor.request import Health
from tests.support.looping import is_collected, run_until
from tests.support.stuck import stuck


class Site:
    """The supervisor's side, and a server whose answers the test gives."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.probes = ProbeProcess(self.loop)
        self.verdicts: dict[str, tuple[bool, str]] = {}
        self.server = socket.create_server(("127.0.0.1", 0))

    def probe(self, name: str, *, timeout: float = 5, port: int | None = None) -> None:
        wanted = Health(
            kind="http",
            address="127.0.0.1",
            port=port or self.server.getsockname()[1],
            path=f"/{name}",
            timeout=timeout,
        )
        self.probes.probe(wanted, lambda *verdict: self.verdicts.update({name: verdict}))

    def run_until(self, condition) -> None:
        run_until(self.loop, condition)

    def close(self) -> None:
        pid = self.probes.pid
        self.probes.close()
        self.run_until(lambda: not pid or is_collected(pid))
        self.server.close()
        self.loop.close()

    def serve(self, count: int, act) -> None:
        """Answer *count* connections well, after *act* for the first one."""
        for number in range(count):
            connection, _ = self.server.accept()
            with connection:
                connection.recv(4096)
                if number == 0:
                    act()
                with suppress(ConnectionError):  # of the process that was killed
                    connection.sendall(b"HTTP/1.1 204 Fine\r\n\r\n")


@pytest.fixture
def site():
    site = Site()
    yield site
    site.close()


def test_a_process_that_dies_costs_nobody_a_verdict(site):
    def kill() -> None:
        os.kill(site.probes.pid, signal.SIGKILL)

    site.probe("a")
    site.probe("b")
    server = threading.Thread(target=site.serve, args=(4, kill), daemon=True)
    server.start()
    site.run_until(lambda: len(site.verdicts) == 2)
    assert site.verdicts == {"a": (True, "204 Fine"), "b": (True, "204 Fine")}


def test_one_that_does_not_answer_fails_the_one_that_waited_and_no_other(site, monkeypatch):
    monkeypatch.setattr("runtime.supervisor.probe_process._PATIENCE_S", 0.0)
    site.probe("a", timeout=0.3)
    stuck = site.probes.pid
    os.kill(stuck, signal.SIGSTOP)
    site.probe("b", timeout=5)
    server = threading.Thread(target=site.serve, args=(1, lambda: None), daemon=True)
    server.start()
    site.run_until(lambda: len(site.verdicts) == 2)
    assert site.verdicts == {"a": (False, "no answer within 0.3 s"), "b": (True, "204 Fine")}
    assert site.probes.pid != stuck


def test_one_that_cannot_even_die_holds_up_nobody(site, monkeypatch):
    monkeypatch.setattr("runtime.supervisor.probe_process._PATIENCE_S", 0.0)
    site.probe("a", timeout=0.1)
    first = site.probes.pid
    with stuck(first) as is_there:
        site.probe("b")
        server = threading.Thread(target=site.serve, args=(1, lambda: None), daemon=True)
        server.start()
        site.run_until(lambda: len(site.verdicts) == 2)
        assert is_there()
    assert site.verdicts == {"a": (False, "no answer within 0.1 s"), "b": (True, "204 Fine")}
    site.run_until(lambda: is_collected(first))


def test_without_descriptors_a_probe_fails_and_nothing_else(site, monkeypatch):
    def none_left(*_args, **_options):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "socketpair", none_left)
    site.probe("a")
    site.run_until(lambda: site.verdicts)
    assert site.verdicts["a"] == (False, "no socket: [Errno 24] Too many open files")
