"""Connecting to a supervisor that takes no more connections: stopped, or far behind."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.errors import SupervisorError
from runtime.kernel.listening import listen
from runtime.root import Root
from runtime.supervisor import start
from runtime.supervisor.names import SOCKET
from runtime.supervisor.protocol import VERSION, send


@pytest.fixture
def root(tmp_path: Path) -> Root:
    root = Root.at(tmp_path)
    root.run.mkdir()
    return root


@pytest.fixture
def full(root: Root) -> Iterator[socket.socket]:
    """The listening socket, with as many waiting in its backlog as there is room for."""
    path = os.path.join(root.run, SOCKET)
    waiting: list[socket.socket] = []
    with listen(path) as listener:
        listener.listen(0)
        try:
            while True:
                waiting.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                waiting[-1].setblocking(False)
                waiting[-1].connect(path)
        except BlockingIOError:
            yield listener
        for each in waiting:
            each.close()


@pytest.mark.usefixtures("full")
def test_it_is_not_waited_for_without_end(root: Root) -> None:
    begun = time.monotonic()
    with pytest.raises(SupervisorError, match=r"does not answer \(no lock file\)"):
        start.connect(root, start=True, timeout=0.2)
    assert 0.2 <= time.monotonic() - begun < 5


def test_it_is_connected_to_when_there_is_room(root: Root, full: socket.socket) -> None:
    def serve() -> None:
        full.accept()[0].close()
        connection, _ = full.accept()
        with connection:
            send(connection, {"hello": VERSION})
            assert connection.recv(4096)  # closed before, it would be gone for the other side

    server = threading.Thread(target=serve)
    server.start()
    with start.connect(root, start=False, timeout=10) as connection:
        assert connection.gettimeout() is None
    server.join()


@pytest.mark.usefixtures("full")
def test_the_error_tells_how_the_log_of_one_that_breaks_ends(root: Root) -> None:
    (root.run / "supervisor.log").write_text("Traceback\n  a line\nNameError: Enum\n")
    with pytest.raises(SupervisorError, match=r"supervisor\.log ends with: NameError: Enum$"):
        start.connect(root, start=True, timeout=0.1)
