"""The supervisor's socket, in a loop of its own."""

import os
import resource
import socket
from contextlib import contextmanager

import pytest

from runtime.supervisor import protocol
from runtime.supervisor.loop import Loop
from runtime.supervisor.server import Server


@contextmanager
def no_descriptor_left():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def run_for(loop, seconds):
    loop.call_later(seconds, loop.stop)
    loop.run()
    loop._stopped = False


def test_out_of_descriptors_it_waits_until_there_are_some(tmp_path, monkeypatch):
    loop = Loop()
    tried = []
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        server = Server(loop, listener, handle=lambda _: None, left=lambda: None, facts={})
        accept = server.accept

        def counted():
            tried.append(1)
            return accept()

        monkeypatch.setattr(server, "accept", counted)
        client.connect(str(tmp_path / "socket"))
        protocol.send(client, {"hello": protocol.VERSION})
        with no_descriptor_left():
            # Somebody is waiting: that is no time to end.
            assert server.accept()
            run_for(loop, 0.35)
        # And it does not use up a processor meanwhile.
        assert 2 <= len(tried) <= 6
        client.settimeout(5)
        run_for(loop, 0.35)
        assert client.recv(4096)
        assert len(server.connections) == 1
        with no_descriptor_left():
            assert server.accept()
        server.close()
        run_for(loop, 0.25)
    loop.close()


@pytest.mark.parametrize("how", ["more than may be sent", "more than there is room for"])
def test_who_sends_too_many_descriptors_is_hung_up_on_and_nobody_else(tmp_path, how):
    loop = Loop()
    handled = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        server = Server(loop, listener, handle=handled.append, left=lambda: None, facts={})
        clients = [socket.socket(socket.AF_UNIX) for _ in range(2)]
        for client in clients:
            client.connect(str(tmp_path / "socket"))
            protocol.send(client, {"hello": protocol.VERSION})
            client.settimeout(5)
        server.accept()
        run_for(loop, 0.1)
        for client in clients:
            assert client.recv(4096)
        before = set(os.listdir("/proc/self/fd"))
        if how == "more than may be sent":
            protocol.send(clients[0], {"op": "x"}, (0,) * (protocol.MAX_FDS + 4))
            run_for(loop, 0.1)
        else:
            protocol.send(clients[0], {"op": "x"}, (0, 0, 0))
            with no_descriptor_left():
                run_for(loop, 0.1)
        assert clients[0].recv(4096) == b""
        assert not handled
        assert len(before - set(os.listdir("/proc/self/fd"))) == 1  # our end of that line
        protocol.send(clients[1], {"op": "y"})
        run_for(loop, 0.1)
        assert len(handled) == 1
        for client in clients:
            client.close()
        server.close()
        run_for(loop, 0.25)
    loop.close()
