"""A host for network tests: a namespace with its own links, routes, nft tables and sysctls.

The calling thread moves into it, so that the code under test makes everything there and the real
host keeps its firewall and its forwarding. Beside it, on one wire, stands a neighbour.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from runtime.kernel.namespaces import CLONE_NEWNET, setns, unshare
from runtime.network import netns

T = TypeVar("T")

HOST = "198.51.100.2"
NEIGHBOUR = "198.51.100.1"
TIMEOUT_S = 2.0
REFUSED_S = 0.4
"""How long to wait for an answer that should not come."""


@dataclass
class TestHost:
    __test__ = False
    folder: Path
    neighbour: str
    """Where the neighbour's namespace is pinned."""
    stack: ExitStack = field(default_factory=ExitStack)

    def namespace(self, name: str) -> str:
        """Pin a namespace, as a container has one, and return where."""
        path = str(self.folder / "run" / "netns" / name)
        netns.create(path)
        self.stack.callback(netns.delete, path)
        return path

    def tcp(self, where: str | None, port: int, *, says: str, ip: str = "0.0.0.0") -> None:
        """Serve TCP in *where* (None: the host): one line, *says* and who asked."""
        listener = inside(where, lambda: _bound(socket.SOCK_STREAM, ip, port))
        listener.listen(16)

        def answer() -> None:
            connection, (peer, _) = listener.accept()
            with connection:
                connection.sendall(f"{says} {peer}\n".encode())

        self._serve(listener, answer)

    def udp(self, where: str | None, port: int, *, says: str, ip: str = "0.0.0.0") -> None:
        """The same with UDP, one datagram each way."""
        listener = inside(where, lambda: _bound(socket.SOCK_DGRAM, ip, port))

        def answer() -> None:
            _, peer = listener.recvfrom(512)
            listener.sendto(f"{says} {peer[0]}\n".encode(), peer)

        self._serve(listener, answer)

    def _serve(self, listener: socket.socket, answer: Callable[[], None]) -> None:
        done_read, done_write = os.pipe()

        def loop() -> None:
            while True:
                ready, _, _ = select.select([listener, done_read], [], [])
                if done_read in ready:
                    return
                with suppress(OSError):
                    answer()

        thread = threading.Thread(target=loop)
        thread.start()
        self.stack.callback(os.close, done_read)
        self.stack.callback(listener.close)
        self.stack.callback(thread.join)
        self.stack.callback(os.close, done_write)


@contextmanager
def test_host(folder: Path) -> Iterator[TestHost]:
    """Move the calling thread into a fresh host, and back at the end."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    neighbour = str(folder / "neighbour")
    try:
        unshare(CLONE_NEWNET)
        netns.create(neighbour)
        host = TestHost(folder, neighbour)
        try:
            with netns_fd(neighbour) as fd:
                run("ip link set lo up")
                run(f"ip link add eth0 type veth peer name eth0 netns /proc/self/fd/{fd}", fd)
            run(f"ip addr add {HOST}/24 dev eth0")
            run("ip link set eth0 up mtu 1400")
            inside(
                neighbour,
                lambda: (
                    run(f"ip addr add {NEIGHBOUR}/24 dev eth0"),
                    run("ip link set eth0 up mtu 1400"),
                ),
            )
            run(f"ip route add default via {NEIGHBOUR}")
            # Inherited from the real host otherwise.
            run("sysctl -q -w net.ipv4.ip_forward=0")
            yield host
        finally:
            host.stack.close()
            netns.delete(neighbour)
    finally:
        setns(home, CLONE_NEWNET)
        os.close(home)


test_host.__test__ = False  # type: ignore[attr-defined]


@contextmanager
def netns_fd(path: str) -> Iterator[int]:
    fd = netns.open_pinned(path)
    try:
        yield fd
    finally:
        os.close(fd)


def run(command: str, *fds: int) -> str:
    """Run a command in the calling thread's namespace and return what it prints."""
    done = subprocess.run(
        command.split(), capture_output=True, text=True, check=False, pass_fds=fds
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def nft(script: str) -> str:
    done = subprocess.run(
        ["nft", "-f", "-"], input=script, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def inside(where: str | None, function: Callable[[], T]) -> T:
    return function() if where is None else netns.visit([where], function)[where]


def ask_tcp(where: str | None, ip: str, port: int, *, timeout_s: float = TIMEOUT_S) -> str:
    """Return the line a server sends; raises OSError when there is none."""
    asker = inside(where, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    with asker:
        asker.settimeout(timeout_s)
        asker.connect((ip, port))
        return asker.recv(512).decode().strip()


def ask_udp(
    where: str | None, ip: str, port: int, *, timeout_s: float = TIMEOUT_S, source: int = 0
) -> str:
    asker = inside(where, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with asker:
        asker.settimeout(timeout_s)
        if source:
            asker.bind(("0.0.0.0", source))
        asker.connect((ip, port))
        asker.send(b"?")
        return asker.recv(512).decode().strip()


def silent(ask: Callable[..., str], where: str | None, ip: str, port: int) -> bool:
    """Return whether nobody answers."""
    try:
        ask(where, ip, port, timeout_s=REFUSED_S)
    except OSError:
        return True
    return False


def _bound(kind: int, ip: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, kind)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((ip, port))
    return listener
