"""The socket: who may connect, requests in, answers out.

Answers may come in any order and at any time; a peer that does not read them is hung up on
before it costs more than MAX_QUEUED bytes.
"""

import errno
import os
import socket
from collections import deque
from collections.abc import Callable

from runtime.errors import ContainerError, SupervisorError
from runtime.kernel.listening import peer_uid
from runtime.supervisor.loop import IN, OUT, Loop, Timer
from runtime.supervisor.protocol import (
    MAX_QUEUED,
    VERSION,
    Decoder,
    Message,
    encode,
    error_to_json,
    receive,
)

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE_S = 0.1
_MOST = 10**9


class Connection:
    """One client."""

    def __init__(self, server: "Server", peer: socket.socket) -> None:
        self._server = server
        self._socket = peer
        self._decoder = Decoder()
        self._queue: deque[tuple[memoryview, tuple[int, ...]]] = deque()
        self._queued = 0
        self._writing = False
        self._greeted = False
        self.asked = False
        """Whether it has asked for anything yet."""
        self.on_close: list[Callable[[], None]] = []
        """Called once when the client is gone, or hung up on."""
        self.closed = False
        server.loop.watch(peer.fileno(), IN, self._on_ready)

    def send(self, message: Message, fds: tuple[int, ...] = ()) -> None:
        """Queue *message*; *fds* are closed once sent. A client that is gone gets nothing."""
        if self.closed:
            _close_all(fds)
            return
        if fds:
            message = {**message, "fds": len(fds)}
        frame = memoryview(encode(message))
        self._queue.append((frame, fds))
        self._queued += len(frame)
        self._flush()
        if self._queued > MAX_QUEUED:
            self.close()

    def close(self) -> None:
        """Hang up."""
        if self.closed:
            return
        self.closed = True
        self._server.loop.forget(self._socket.fileno())
        self._socket.close()
        self._decoder.close()
        for _frame, fds in self._queue:
            _close_all(fds)
        self._queue.clear()
        self._server.connections.discard(self)
        for action in self.on_close:
            action()
        self._server.left()

    def _on_ready(self, events: int) -> None:
        if events & OUT:
            self._flush()
        if events & ~OUT and not self.closed:
            try:
                self._read()
            except (ConnectionError, SupervisorError):
                self.close()

    def _read(self) -> None:
        try:
            more = receive(self._socket, self._decoder)
        except BlockingIOError:
            return
        for message, fds in self._decoder.messages():
            if self._greeted:
                self.asked = True
                self._server.handle(Request(self, message, fds))
            else:
                _close_all(fds)
                self._greet(message)
            if self.closed:
                return
        if not more:
            self.close()

    def _greet(self, message: Message) -> None:
        theirs = message.get("hello")
        spoken = isinstance(theirs, int) and theirs >= VERSION
        hello = VERSION if spoken else 0
        self.send({"hello": hello, "pid": os.getpid(), **self._server.facts})
        if not spoken:
            self.close()
        self._greeted = True

    def _flush(self) -> None:
        try:
            while self._queue:
                frame, fds = self._queue[0]
                if fds:
                    sent = socket.send_fds(self._socket, [frame], fds)
                    _close_all(fds)
                else:
                    sent = self._socket.send(frame)
                self._queued -= sent
                if sent < len(frame):
                    self._queue[0] = (frame[sent:], ())
                else:
                    self._queue.popleft()
        except BlockingIOError:
            pass
        except ConnectionError:
            self.close()
            return
        if self._writing != bool(self._queue):
            self._writing = bool(self._queue)
            self._server.loop.change(self._socket.fileno(), IN | OUT if self._writing else IN)


class Request:
    """One request: owns its descriptors until they are taken."""

    def __init__(self, connection: Connection, message: Message, fds: list[int]) -> None:
        self.connection = connection
        self.message = message
        self.fds = fds

    @property
    def op(self) -> str:
        """What is asked for."""
        return str(self.message.get("op"))

    def text(self, key: str) -> str:
        """Return a member that must be text.

        Raises:
            SupervisorError: it is not.
        """
        value = self.message.get(key)
        if not isinstance(value, str):
            raise SupervisorError(f"{self.op}: {key} is not text")
        return value

    def number(self, key: str, default: float) -> float:
        """Return a member that must be a number, if it is there: seconds, or a signal.

        Raises:
            SupervisorError: it is none, or beyond all that can be waited for.
        """
        value = self.message.get(key)
        if value is None:
            return default
        # NaN is less than nothing.
        if not isinstance(value, (int, float)) or not abs(value) < _MOST:
            raise SupervisorError(f"{self.op}: {key} is not a number, or not a possible one")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a member that must be a list of text, if it is there.

        Raises:
            SupervisorError: it is not.
        """
        value = self.message.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise SupervisorError(f"{self.op}: {key} is not a list of text")
        return tuple(value)

    def answer(self, result: Message | None = None, fds: tuple[int, ...] = ()) -> None:
        """Answer; *fds* are closed once sent."""
        self.connection.send({"n": self.message.get("n"), "ok": result or {}}, fds)

    def event(self, event: Message) -> None:
        """Send one of many."""
        self.connection.send({"n": self.message.get("n"), "event": event})

    def refuse(self, error: ContainerError) -> None:
        """Answer with an error."""
        self.connection.send({"n": self.message.get("n"), "error": error_to_json(error)})

    def close_fds(self) -> None:
        """Close descriptors nobody took."""
        _close_all(self.fds)
        self.fds = []


class Server:
    """Accepts clients of our own user."""

    def __init__(
        self,
        loop: Loop,
        listener: socket.socket,
        *,
        handle: Callable[[Request], None],
        left: Callable[[], None],
        facts: Message,
    ) -> None:
        """Call *handle* with each request, and *left* whenever a client is gone.

        Who connects is told *facts*.
        """
        self.loop = loop
        self.facts = facts
        self.handle = handle
        self.left = left
        self.connections: set[Connection] = set()
        self._listener = listener
        self._pause: Timer | None = None
        self._paused = False
        listener.setblocking(False)
        loop.watch(listener.fileno(), IN, self._on_ready)

    def _on_ready(self, _events: int) -> None:
        self.accept()

    def accept(self) -> bool:
        """Take in one waiting client; return whether there was one.

        Where the host has nothing left to take it in with, it waits a little longer.
        """
        try:
            peer, _address = self._listener.accept()
        except BlockingIOError:
            return False
        except ConnectionAbortedError:
            return True
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            self._accept_later()
            return True
        if peer_uid(peer) not in (0, os.geteuid()):
            peer.close()
            return True
        peer.setblocking(False)
        self.connections.add(Connection(self, peer))
        return True

    def pause(self) -> None:
        """Take in nobody; they wait in the listening socket, for us or for who comes after us."""
        self._paused = True
        self.loop.change(self._listener.fileno(), 0)

    def resume(self) -> None:
        """Take in clients again."""
        self._paused = False
        self.loop.change(self._listener.fileno(), IN)

    def _accept_later(self) -> None:
        # A client that waits is told of again and again.
        if self._pause is None:
            self.loop.change(self._listener.fileno(), 0)
            self._pause = self.loop.call_later(_PAUSE_S, self._accept_again)

    def _accept_again(self) -> None:
        self._pause = None
        if not self._paused:
            self.loop.change(self._listener.fileno(), IN)

    def close(self) -> None:
        """Hang up on everybody and listen no more."""
        if self._pause is not None:
            self._pause.cancel()
        self.loop.forget(self._listener.fileno())
        for connection in tuple(self.connections):
            connection.close()
        self._listener.close()


def _close_all(fds: list[int] | tuple[int, ...]) -> None:
    for fd in fds:
        os.close(fd)
