"""The words between clients and the supervisor.

A frame is a length (4 bytes, big endian) and that many bytes of JSON; descriptors travel with
the frame's first byte, and its ``fds`` member says how many. The client speaks first::

    {"hello": 1}                          the highest version it speaks
    {"hello": 1, "pid": 7, "version": "0.1.0"}    the supervisor's answer, and its code's version;
                                          0: no protocol in common, it closes
    {"n": 1, "op": "stop", "id": "a"}     a request; n is the client's to choose
    {"n": 1, "ok": {...}}                 its answer, when there is one: others may come before
    {"n": 1, "event": {...}}              one of many, for ``events``
    {"n": 1, "error": {"code": "NotFoundError", "message": "no container a"}}
"""

import errno
import json
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from runtime import errors
from runtime.errors import ContainerError, LaunchError, SupervisorError
from runtime.kernel.passing import receive_fds

VERSION = 1
MAX_FRAME = 8 << 20
MAX_FDS = 16
MAX_QUEUED = 4 << 20
"""Bytes kept for a peer that does not read, before it is hung up on."""

Message = dict[str, Any]

_LENGTH = struct.Struct(">I")


def encode(message: Message) -> bytes:
    """Return *message* as a frame.

    Raises:
        SupervisorError: it is larger than a frame may be.
    """
    data = json.dumps(message, separators=(",", ":")).encode()
    if len(data) > MAX_FRAME:
        raise SupervisorError(f"message of {len(data)} bytes is larger than {MAX_FRAME}")
    return _LENGTH.pack(len(data)) + data


def send(connection: socket.socket, message: Message, fds: tuple[int, ...] = ()) -> None:
    """Send *message* with duplicates of *fds* over a blocking socket."""
    if fds:
        message = {**message, "fds": len(fds)}
    frame = memoryview(encode(message))
    while frame:
        sent = socket.send_fds(connection, [frame], fds) if fds else connection.send(frame)
        frame, fds = frame[sent:], ()


def receive(connection: socket.socket, decoder: "Decoder") -> bool:
    """Read once into *decoder*; return False at the end of the stream.

    Raises:
        BlockingIOError: there is nothing to read, on a non-blocking socket.
        ConnectionError: the peer is gone.
        SupervisorError: it sends more descriptors than may be, or than this process has room for.
    """
    try:
        data, fds = receive_fds(connection, 65536, MAX_FDS)
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
        raise SupervisorError("no room for the descriptors that came; see ulimit -n") from error
    decoder.feed(data, fds)
    return bool(data)


class Decoder:
    """Frames out of a stream. Owns received descriptors until they are given out."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._fds: list[int] = []

    def feed(self, data: bytes, fds: list[int]) -> None:
        """Add what was received."""
        self._data += data
        self._fds += fds

    def messages(self) -> Iterator[tuple[Message, list[int]]]:
        """Yield the complete messages with their descriptors, which are now the caller's.

        Raises:
            SupervisorError: what was received is not in this protocol.
        """
        while len(self._data) >= 4:
            (length,) = _LENGTH.unpack_from(self._data)
            if length > MAX_FRAME:
                raise SupervisorError(f"frame of {length} bytes is larger than {MAX_FRAME}")
            if len(self._data) < 4 + length:
                return
            message = _object(bytes(self._data[4 : 4 + length]))
            del self._data[: 4 + length]
            count = message.pop("fds", 0)
            if not isinstance(count, int) or not 0 <= count <= len(self._fds):
                raise SupervisorError(f"{count!r} descriptors announced, {len(self._fds)} came")
            fds, self._fds = self._fds[:count], self._fds[count:]
            yield message, fds

    def close(self) -> None:
        """Close descriptors nobody asked for."""
        while self._fds:
            os.close(self._fds.pop())


def _object(data: bytes) -> Message:
    try:
        message = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SupervisorError(f"not JSON: {error}") from error
    if not isinstance(message, dict):
        raise SupervisorError("a message is not an object")
    return message


def error_to_json(error: ContainerError) -> Message:
    """Return *error* in the form it travels in."""
    data: Message = {"code": type(error).__name__, "message": str(error)}
    if isinstance(error, LaunchError):
        data["exitCode"] = error.exit_code
    return data


def error_from_json(data: Message) -> ContainerError:
    """Return the error that travelled.

    Of a class that this version does not know, or that takes more than words, it is the base class.
    """
    cls = getattr(errors, str(data.get("code")), None)
    message = str(data.get("message"))
    if cls is LaunchError:
        return LaunchError(message, exit_code=int(data.get("exitCode", 125)))
    if isinstance(cls, type) and issubclass(cls, ContainerError):
        with suppress(TypeError):
            return cls(message)
    return ContainerError(message)
