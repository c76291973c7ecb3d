"""Sending and receiving descriptors, unix(7).

By our own hand, as ``socket.recv_fds`` ignores its *flags* (CPython 3.11): what it receives would
be inherited by every program started later.
"""

import errno
import os
import struct
from collections.abc import Sequence

from runtime.kernel.bare import socket

_INT_BYTES = struct.calcsize("i")


def send_fds(channel: socket.socket, data: bytes, fds: Sequence[int]) -> None:
    """Send *data* and *fds* at once, as ``socket.send_fds`` does."""
    packed = struct.pack(f"{len(fds)}i", *fds)
    channel.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, packed)])


def receive_fds(
    channel: socket.socket, size: int, most: int, *, flags: int = 0
) -> tuple[bytes, list[int]]:
    """Return up to *size* bytes and *most* descriptors, now the caller's; they close on exec.

    Raises:
        BlockingIOError: there is nothing, on a non-blocking socket or with MSG_DONTWAIT.
        ConnectionError: the peer is gone.
        OSError: EMFILE, there is no room for a descriptor; what came with it is lost.
    """
    data, ancillary, got, _address = channel.recvmsg(
        size, socket.CMSG_LEN(most * _INT_BYTES), socket.MSG_CMSG_CLOEXEC | flags
    )
    fds: list[int] = []
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds += struct.unpack_from(f"{len(payload) // _INT_BYTES}i", payload)
    if got & socket.MSG_CTRUNC:
        for fd in fds:
            os.close(fd)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return data, fds
