"""Netlink: messages packed and sent in batches, answers and errors taken apart.

Knows nothing of any family's content; rtnetlink and nfnetlink build on it.

Source: netlink(7), linux/netlink.h.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from types import TracebackType

from runtime.errors import KernelError
from runtime.record import dataclass

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400

NLM_F_DUMP_INTR = 0x10
NLM_F_ACK_TLVS = 0x200

NLMSG_ERROR = 2
NLMSG_DONE = 3
NLMSGERR_ATTR_MSG = 1

NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF

SOL_NETLINK = 270
NETLINK_CAP_ACK = 10
NETLINK_EXT_ACK = 11
NETLINK_GET_STRICT_CHK = 12

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_INT = struct.Struct("=i")
_RECEIVE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Message:
    """One request. *what* names it in errors: ``add link bpv3``."""

    kind: int
    flags: int
    body: bytes
    what: str
    tolerate: tuple[int, ...] = ()
    """errno values that count as success."""


def attribute(kind: int, data: bytes) -> bytes:
    """Return one attribute, padded."""
    length = 4 + len(data)
    return _ATTRIBUTE.pack(length, kind) + data + b"\0" * (-length % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """Return an attribute that holds attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def text(kind: int, value: str) -> bytes:
    """Return a NUL-terminated string attribute."""
    return attribute(kind, value.encode() + b"\0")


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """Return the attributes of *data* from *offset* on, by kind; the last of a kind wins."""
    found = {}
    end = len(data)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4 or offset + length > end:
            break
        found[kind & NLA_TYPE_MASK] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


class Netlink:
    """One socket, of the network namespace of the thread that opened it, for good.

    Not for use by several threads at once. Close it, or use ``with``.
    """

    def __init__(self, protocol: int = NETLINK_ROUTE) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol
        )
        self._socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
        self._socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
        self._socket.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
        self._sequence = 0

    def __enter__(self) -> "Netlink":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def request(self, messages: Sequence[Message]) -> None:
        """Send all *messages* in one system call and wait for each one's acknowledgement.

        The kernel works through them in order and does not stop at an error.

        Raises:
            KernelError: the first error that its message does not tolerate.
        """
        if not messages:
            return
        first = self._sequence + 1
        batch = b"".join(self._pack(message, NLM_F_ACK) for message in messages)
        self._socket.send(batch)
        failed: tuple[int, KernelError] | None = None
        waiting = len(messages)
        while waiting:
            for kind, flags, sequence, payload in self._receive():
                position = sequence - first
                if kind != NLMSG_ERROR or not 0 <= position < len(messages):
                    continue
                waiting -= 1
                number = -_INT.unpack_from(payload)[0]
                message = messages[position]
                if number and number not in message.tolerate and failed is None:
                    failed = position, _error(number, message.what, flags, payload)
        if failed is not None:
            raise failed[1]

    def ask(self, message: Message) -> bytes | None:
        """Return the one answer to *message*; None if its error is tolerated.

        Raises:
            KernelError: another error.
        """
        self._socket.send(self._pack(message, 0))
        while True:
            for kind, flags, sequence, payload in self._receive():
                if sequence != self._sequence:
                    continue
                if kind != NLMSG_ERROR:
                    return payload
                number = -_INT.unpack_from(payload)[0]
                if number in message.tolerate:
                    return None
                raise _error(number, message.what, flags, payload)

    def dump(self, message: Message) -> list[bytes]:
        """Return the payloads of a dump; repeated when the kernel's table moved meanwhile.

        Raises:
            KernelError: the kernel refused.
        """
        while True:
            try:
                return list(self._dump(message))
            except InterruptedError:
                continue

    def _dump(self, message: Message) -> Iterator[bytes]:
        self._socket.send(self._pack(message, NLM_F_DUMP))
        interrupted = False
        while True:
            for kind, flags, sequence, payload in self._receive():
                if sequence != self._sequence:
                    continue
                interrupted = interrupted or bool(flags & NLM_F_DUMP_INTR)
                if kind in (NLMSG_DONE, NLMSG_ERROR):
                    number = -_INT.unpack_from(payload)[0] if len(payload) >= 4 else 0
                    if number and number not in message.tolerate:
                        raise _error(number, message.what, flags, payload)
                    if interrupted:
                        raise InterruptedError(errno.EINTR, os.strerror(errno.EINTR))
                    return
                yield payload

    def _pack(self, message: Message, flags: int) -> bytes:
        self._sequence += 1
        length = 16 + len(message.body)
        header = _HEADER.pack(
            length, message.kind, message.flags | flags | NLM_F_REQUEST, self._sequence, 0
        )
        return header + message.body + b"\0" * (-length % 4)

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        data = self._socket.recv(_RECEIVE_BYTES)
        offset = 0
        while offset + 16 <= len(data):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
            yield kind, flags, sequence, data[offset + 16 : offset + length]
            offset += (length + 3) & ~3


def _error(number: int, what: str, flags: int, payload: bytes) -> KernelError:
    detail = what
    if flags & NLM_F_ACK_TLVS:
        # With NETLINK_CAP_ACK only the failed message's header follows the error number.
        said = attributes(payload, 4 + 16).get(NLMSGERR_ATTR_MSG)
        if said:
            detail = f"{what} ({said.rstrip(bytes(1)).decode(errors='replace')})"
    return KernelError(number, "netlink", detail)
