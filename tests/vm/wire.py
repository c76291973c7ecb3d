"""What host and machine say to each other over one virtio serial port: frames of numbered streams.

A stream is one command. Imported by both ends, so standard library only.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum


class Kind(IntEnum):
    """What a frame holds; its direction is fixed by that."""

    HELLO = 1
    """To the host: JSON, the boot's id. Always the first frame of a boot, on stream 0."""
    RUN = 2
    """To the machine: JSON with ``argv``, ``env`` and ``cwd``; opens a stream."""
    INPUT = 3
    """To the machine: bytes for the command's stdin; empty is its end."""
    SIGNAL = 4
    """To the machine: a signal's number in decimal, for the command's process group."""
    OUTPUT = 5
    ERRORS = 6
    EXIT = 7
    """To the host: the exit code in decimal, negative for a signal; closes the stream."""


HEADER = struct.Struct(">BII")
CHUNK = 1 << 16


def encode(kind: Kind, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame."""
    return HEADER.pack(kind, stream, len(payload)) + payload


def decode(read: Callable[[int], bytes]) -> tuple[Kind, int, bytes]:
    """Return the next frame; *read* returns up to that many bytes, none at the end.

    Raises:
        EOFError: the other end is gone.
    """
    kind, stream, length = HEADER.unpack(_exactly(read, HEADER.size))
    return Kind(kind), stream, _exactly(read, length)


def _exactly(read: Callable[[int], bytes], count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = read(count - len(parts))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)
