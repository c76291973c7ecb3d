"""The DNS process: names of containers on the gateways of their networks.

Started by the supervisor, with a socket for orders and the folder of zone files; it becomes
``nobody`` before it reads the first packet of anybody else. Single-threaded and bounded: at most
so many questions and connections at once, in all and per client. Answers only who is of the
network's own subnet, so it is of no use to anybody outside.

An order is a packet of JSON: ``{"op": "listen", "address": A}`` with the UDP and the TCP socket
(SCM_RIGHTS), or ``{"op": "close", "address": A}``. The end of the orders is its end.
"""

import json
import os
import resource
import socket
import sys
from typing import Protocol

from runtime.kernel.passing import receive_fds
from runtime.kernel.process import PR_SET_NO_NEW_PRIVS, prctl
from runtime.network import dnswire
from runtime.network.dnsforward import TcpQuery, UdpQuery, Upstreams, framed, unframed
from runtime.network.dnsloop import IN, OUT, Loop, Timer
from runtime.network.dnszone import Zones

NOBODY = 65534
MAX_QUERIES = 512
MAX_QUERIES_PER_CLIENT = 96
MAX_CONNECTIONS = 128
MAX_CONNECTIONS_PER_CLIENT = 16
IDLE_S = 10.0
MAX_BYTES = 65535
DATAGRAMS_PER_TURN = 64
WANTED_FILES = 4096


class Server:
    """All listeners, and the questions in flight."""

    def __init__(self, loop: Loop, zones: Zones, upstreams: Upstreams) -> None:
        self.loop = loop
        self._zones = zones
        self._upstreams = upstreams
        self._listeners: dict[str, tuple[socket.socket, socket.socket]] = {}
        self._under_way: set[TcpQuery | UdpQuery] = set()
        self._connected: set[Connection] = set()
        self._queries = Quota(MAX_QUERIES, MAX_QUERIES_PER_CLIENT)
        self._places = Quota(MAX_CONNECTIONS, MAX_CONNECTIONS_PER_CLIENT)

    def listen(self, gateway: str, udp: socket.socket, tcp: socket.socket) -> None:
        """Serve on these sockets, which are ours from now on."""
        self.close(gateway)
        udp.setblocking(False)
        tcp.setblocking(False)
        self._listeners[gateway] = (udp, tcp)
        self.loop.watch(udp, IN, lambda _: self._datagrams(gateway, udp))
        self.loop.watch(tcp, IN, lambda _: self._connection(gateway, tcp))

    def close(self, gateway: str) -> None:
        """Serve there no more; unknown is fine."""
        for listener in self._listeners.pop(gateway, ()):
            self.loop.forget(listener)
            listener.close()

    def stop(self) -> None:
        """Close everything; nobody is answered any more."""
        for gateway in tuple(self._listeners):
            self.close(gateway)
        for query in self._under_way:
            query.cancel()
        for connection in tuple(self._connected):
            connection.close()

    def closed(self, connection: "Connection", client: str) -> None:
        """Hear from a connection that it is closed."""
        self._connected.discard(connection)
        self._places.leave(client)

    def ask(self, gateway: str, client: str, data: bytes, reply: "Reply", *, stream: bool) -> None:
        """See to one request; *reply* is called with the answer, at once or later, or with None."""
        try:
            question = dnswire.parse_question(data)
        except dnswire.MessageError as error:
            # Only to those who may ask: see Zones.answer.
            zone = self._zones.get(gateway)
            known = zone is not None and zone.holds(client)
            reply(dnswire.error(data, error.rcode) if known and error.rcode is not None else None)
            return
        limit = MAX_BYTES if stream else question.limit
        answer = self._zones.answer(gateway, client, question)
        if answer is None:
            if self._zones.is_orphaned():
                # The folder was made anew under the same name; the supervisor starts us anew.
                sys.exit(0)
            reply(None)
        elif answer.forward is None:
            reply(dnswire.answer(question, answer.rcode, answer.records, limit=limit))
        else:
            self._forward(client, question, data, answer.forward, reply, stream=stream)

    def _forward(
        self,
        client: str,
        question: dnswire.Question,
        data: bytes,
        servers: list[str],
        reply: "Reply",
        *,
        stream: bool,
    ) -> None:
        failure = dnswire.answer(question, dnswire.SERVFAIL, [], limit=MAX_BYTES)
        # Our own addresses would send questions round and round.
        upstreams = [s for s in servers or self._upstreams.servers() if s not in self._listeners]
        if not upstreams or not self._queries.enter(client):
            reply(failure)
            return

        def done(answer: bytes | None) -> None:
            self._queries.leave(client)
            self._under_way.discard(query)
            if answer is not None and not stream and len(answer) > question.limit:
                answer = dnswire.cut(answer, question)
            reply(answer or failure)

        kind = TcpQuery if stream else UdpQuery
        query = kind(self.loop, question, data, upstreams, done)
        self._under_way.add(query)
        query.start()

    def _datagrams(self, gateway: str, udp: socket.socket) -> None:
        # Not until it is empty: one flood must not keep the others waiting.
        for _ in range(DATAGRAMS_PER_TURN):
            try:
                data, peer = udp.recvfrom(MAX_BYTES)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error about an earlier answer

            def reply(answer: bytes | None, peer: tuple[str, int] = peer) -> None:
                if answer is None or self._listeners.get(gateway, (None,))[0] is not udp:
                    return
                try:
                    udp.sendto(answer, peer)
                except OSError:
                    return  # the container is gone, or its queue is full: as if lost on the way

            if len(data) >= dnswire.HEADER_BYTES:
                self.ask(gateway, peer[0], data, reply, stream=False)

    def _connection(self, gateway: str, tcp: socket.socket) -> None:
        try:
            made, (client, _) = tcp.accept()
        except OSError:
            return
        if self._places.enter(client):
            connection = Connection(self, gateway, client, made)
            self._connected.add(connection)
            connection.start()
        else:
            made.close()


class Quota:
    """Counts things in all and per client."""

    def __init__(self, total: int, per_client: int) -> None:
        self._total = total
        self._per_client = per_client
        self._count = 0
        self._clients: dict[str, int] = {}

    def enter(self, client: str) -> bool:
        """Count one more, or return False where that is too many."""
        mine = self._clients.get(client, 0)
        if self._count >= self._total or mine >= self._per_client:
            return False
        self._count += 1
        self._clients[client] = mine + 1
        return True

    def leave(self, client: str) -> None:
        """Count one less."""
        self._count -= 1
        self._clients[client] -= 1
        if not self._clients[client]:
            del self._clients[client]


class Reply(Protocol):
    """What takes an answer."""

    def __call__(self, answer: bytes | None) -> None:
        """Send it, or give up."""


class Connection:
    """One TCP client: a question at a time, closed when idle."""

    def __init__(self, server: Server, gateway: str, client: str, made: socket.socket) -> None:
        self._server = server
        self._gateway = gateway
        self._client = client
        self._socket = made
        self._in = b""
        self._out = b""
        self._open = True
        self._timer: Timer | None = None
        made.setblocking(False)

    def start(self) -> None:
        """Wait for the first question."""
        self._await_question()

    def _await_question(self) -> None:
        self._patience()
        self._server.loop.watch(self._socket, IN, self._readable)
        self._take_question()

    def _readable(self, _events: int) -> None:
        try:
            received = self._socket.recv(MAX_BYTES)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            self.close()
            return
        self._in += received
        self._take_question()

    def _take_question(self) -> None:
        message, rest = unframed(self._in)
        if message is None:
            return
        self._in = rest
        if len(message) < dnswire.HEADER_BYTES:
            self.close()
            return
        # Nothing is read until the answer is out; what a client sends ahead waits in the kernel.
        self._server.loop.forget(self._socket)
        self._server.ask(self._gateway, self._client, message, self._reply, stream=True)

    def _reply(self, answer: bytes | None) -> None:
        if not self._open:
            return
        if answer is None:
            self.close()
            return
        self._out = framed(answer)
        self._patience()
        self._server.loop.watch(self._socket, OUT, self._writable)

    def _writable(self, _events: int) -> None:
        try:
            self._out = self._out[self._socket.send(self._out) :]
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if not self._out:
            self._await_question()

    def _patience(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._server.loop.call_later(IDLE_S, self.close)

    def close(self) -> None:
        """Close it; idempotent."""
        if not self._open:
            return
        self._open = False
        if self._timer is not None:
            self._timer.cancel()
        self._server.loop.forget(self._socket)
        self._socket.close()
        self._server.closed(self, self._client)


def obey(server: Server, orders: socket.socket) -> None:
    """Carry out the order that waits on *orders*; ends the process when there are no more."""
    try:
        data, fds = receive_fds(orders, 4096, 2)
    except BlockingIOError:
        return
    if not data:
        sys.exit(0)
    order = json.loads(data)
    if order["op"] == "listen":
        udp, tcp = (socket.socket(fileno=fd) for fd in fds)
        server.listen(order["address"], udp, tcp)
    elif order["op"] == "close":
        server.close(order["address"])


def become_nobody() -> None:
    """Give up root, for good."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def main(arguments: list[str]) -> None:
    """Serve until the orders end; *arguments* are the descriptors of orders and zone folder."""
    orders_fd, zones_fd = map(int, arguments)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(WANTED_FILES, most), most))
    # Nobody must be able to look files up in it; its parents are closed to everyone else.
    os.fchmod(zones_fd, 0o755)
    become_nobody()
    orders = socket.socket(fileno=orders_fd)
    orders.setblocking(False)
    loop = Loop()
    server = Server(loop, Zones(zones_fd), Upstreams())
    loop.watch(orders, IN, lambda _: obey(server, orders))
    while True:
        loop.turn()
