"""Questions the DNS server passes on: to which servers, and what becomes of them.

Every question gets a socket of its own, connected to the server: its source port is random, its
id is, and nobody else can answer into it. Part of the DNS process.
"""

import os
import socket
import struct
from collections.abc import Callable

from runtime.network import dnswire
from runtime.network.dnsloop import IN, OUT, Loop, Timer

RESOLV_CONF = "/etc/resolv.conf"
PORT = 53
MAX_UPSTREAMS = 3
"""As resolv.conf(5)."""
ROUNDS = 2
UDP_TIMEOUT_S = 1.5
TCP_TIMEOUT_S = 5.0
MAX_BYTES = 65535

Done = Callable[[bytes | None], None]
"""Called once, with the answer as it came but for the id of the question, or None: no answer."""


class Upstreams:
    """The host's name servers, as its resolv.conf has them at the moment."""

    def __init__(self, path: str = RESOLV_CONF) -> None:
        self._path = path
        self._stamp: tuple[int, ...] = ()
        self._servers: list[str] = []

    def servers(self) -> list[str]:
        """Return them; 127.0.0.53 and the like work, as we are the host's process."""
        try:
            status = os.stat(self._path)
            stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
            if stamp != self._stamp:
                self._servers = _name_servers(self._path)
                self._stamp = stamp
        except FileNotFoundError:
            self._stamp, self._servers = (), []
        return self._servers


class _Query:
    """One question on its way, on at most one socket and until at most one deadline."""

    def __init__(
        self, loop: Loop, question: dnswire.Question, data: bytes, servers: list[str], done: Done
    ) -> None:
        self._loop = loop
        self._question = question
        self._data = data
        self._servers = list(servers)
        """Those still to be asked, in order."""
        self._done = done
        self._socket: socket.socket | None = None
        self._timer: Timer | None = None
        self._id = 0

    def start(self) -> None:
        """Ask."""
        self._next()

    def cancel(self) -> None:
        """Ask no more, and call nobody."""
        self._leave()

    def _next(self) -> None:
        raise NotImplementedError

    def _leave(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._socket is not None:
            self._loop.forget(self._socket)
            self._socket.close()
            self._socket = None


class UdpQuery(_Query):
    """One question on its way by UDP: the servers in turn, twice around, until one answers."""

    def __init__(
        self, loop: Loop, question: dnswire.Question, data: bytes, servers: list[str], done: Done
    ) -> None:
        super().__init__(loop, question, data, servers * ROUNDS, done)
        self._refusal: bytes | None = None

    def _next(self) -> None:
        self._leave()
        while self._servers:
            server = self._servers.pop(0)
            self._id = struct.unpack(">H", os.urandom(2))[0]
            try:
                self._socket = _connect(socket.SOCK_DGRAM, server)
                self._socket.send(dnswire.with_id(self._data, self._id))
            except OSError:
                self._leave()
                continue
            self._loop.watch(self._socket, IN, self._ready)
            self._timer = self._loop.call_later(UDP_TIMEOUT_S, self._next)
            return
        self._done(self._refusal)

    def _ready(self, _events: int) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(MAX_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._next()
            return
        if not dnswire.is_answer_to(data, self._id, self._question.raw):
            return
        data = dnswire.with_id(data, self._question.id)
        if dnswire.rcode_of(data) in (dnswire.SERVFAIL, dnswire.REFUSED) and self._servers:
            # Another one may know better; if none does, this is what is said.
            self._refusal = data
            self._next()
            return
        self._leave()
        self._done(data)


class TcpQuery(_Query):
    """One question on its way by TCP, to one server after the other."""

    _out = b""
    _in = b""

    def _next(self) -> None:
        self._leave()
        while self._servers:
            server = self._servers.pop(0)
            self._id = struct.unpack(">H", os.urandom(2))[0]
            self._in = b""
            self._out = framed(dnswire.with_id(self._data, self._id))
            try:
                self._socket = _connect(socket.SOCK_STREAM, server)
            except OSError:
                continue
            self._loop.watch(self._socket, OUT, self._ready)
            self._timer = self._loop.call_later(TCP_TIMEOUT_S, self._next)
            return
        self._done(None)

    def _ready(self, events: int) -> None:
        assert self._socket is not None
        try:
            if self._out and events & OUT:
                self._out = self._out[self._socket.send(self._out) :]
                if not self._out:
                    self._loop.watch(self._socket, IN, self._ready)
                return
            received = self._socket.recv(MAX_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._next()
            return
        self._in += received
        message, _ = unframed(self._in)
        if message is not None and dnswire.is_answer_to(message, self._id, self._question.raw):
            self._leave()
            self._done(dnswire.with_id(message, self._question.id))
        elif message is not None or not received:
            self._next()


def framed(message: bytes) -> bytes:
    """Return a message as it goes over TCP: its length first."""
    return struct.pack(">H", len(message)) + message


def unframed(data: bytes) -> tuple[bytes | None, bytes]:
    """Return the first whole message of a TCP stream, or None, and what is behind it."""
    if len(data) < 2:
        return None, data
    end = 2 + int(struct.unpack_from(">H", data)[0])
    return (data[2:end], data[end:]) if len(data) >= end else (None, data)


def _connect(kind: int, server: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    made = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        address, _, scope = server.partition("%")
        where = (address, PORT, 0, socket.if_nametoindex(scope) if scope else 0)
        made.connect(where if family == socket.AF_INET6 else (address, PORT))
    except BlockingIOError:
        pass
    except OSError:
        made.close()
        raise
    return made


def _name_servers(path: str) -> list[str]:
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = [line.split() for line in file]
    servers = [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]
    return servers[:MAX_UPSTREAMS]
