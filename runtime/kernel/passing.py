"""Receiving descriptors.

socket.recv_fds ignores its *flags* (CPython 3.11), so what it receives would be inherited by
every program started later.
"""

import array
import socket

_INT = array.array("i").itemsize


def receive_fds(
    channel: socket.socket, size: int, most: int, *, flags: int = 0
) -> tuple[bytes, list[int]]:
    """Return up to *size* bytes and *most* descriptors, now the caller's; they close on exec.

    Raises:
        BlockingIOError: there is nothing, on a non-blocking socket or with MSG_DONTWAIT.
        ConnectionError: the peer is gone.
    """
    data, ancillary, _flags, _address = channel.recvmsg(
        size, socket.CMSG_SPACE(most * _INT), socket.MSG_CMSG_CLOEXEC | flags
    )
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % _INT])
    return data, list(fds)
