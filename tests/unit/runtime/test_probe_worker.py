"""What the probe process makes of the answers of containers, which may be anything."""

import json
import select
import socket

import pytest

from runtime.supervisor.probe_worker import Probe

MANY = b"9" * 5000


def verdict(response: bytes) -> tuple[bool, str]:
    """Return what an HTTP probe says of a server that answers so and goes away."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as connection:
        connection.setblocking(False)
        address, port = server.getsockname()
        wanted = {"number": 1, "timeout": 30, "kind": "http", "path": "/", "host": "a"}
        probe = Probe(wanted | {"address": address, "port": port}, connection)
        peer, _ = server.accept()
        with peer:
            peer.sendall(response)
            peer.shutdown(socket.SHUT_WR)
            while probe.verdict is None:
                poll = select.poll()
                poll.register(connection, probe.events)
                poll.poll()
                probe.advance()
        return probe.verdict


@pytest.mark.parametrize(
    ("response", "passed", "said"),
    [
        (b"HTTP/1.1 204 Fine\r\n\r\n", True, "204 Fine"),
        (b"HTTP/1.0 503 Busy\r\nDate: now\r\n\r\nlater", False, "503 Busy: later"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: " + MANY + b"\r\n\r\nx", True, "200 OK"),
        (b"HTTP/1.1 " + MANY + b" OK\r\n\r\n", False, "not an HTTP response"),
        (b"HTTP/1.1 20 OK\r\n\r\n", False, "not an HTTP response"),
        (b"HTTP/1.1 2\xb2O OK\r\n\r\n", False, "not an HTTP response"),
        (b"SSH-2.0-x\r\n", False, "not an HTTP response"),
    ],
)
def test_answers(response: bytes, passed: bool, said: str) -> None:
    assert verdict(response)[0] is passed
    assert said in verdict(response)[1]


def test_a_long_reason_is_cut() -> None:
    assert len(json.dumps(verdict(b"HTTP/1.1 200 " + b"\0" * 60000 + b"\r\n\r\n"))) < 16384
