"""A resolver for tests: questions and answers taken apart here once more, without our code."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

A, PTR, AAAA = 1, 12, 28


@dataclass(frozen=True)
class Reply:
    rcode: int
    records: tuple[str, ...]
    """Addresses, or names for PTR; in the order given."""
    cut: bool
    authoritative: bool
    size: int


def question(name: str, qtype: int = A, *, number: int = 7, edns: int = 0) -> bytes:
    labels = b"".join(bytes([len(p)]) + p.encode() for p in name.split("."))
    body = labels + b"\0" + struct.pack(">HH", qtype, 1)
    extra = struct.pack(">BHHIH", 0, 41, edns, 0, 0) if edns else b""
    return struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 1 if edns else 0) + body + extra


def parse(data: bytes) -> Reply:
    _, flags, _, answers, _, _ = struct.unpack_from(">HHHHHH", data)
    offset = _skip_name(data, 12) + 4 if len(data) > 12 else 12
    records = []
    for _ in range(answers):
        offset = _skip_name(data, offset)
        kind, _, _, length = struct.unpack_from(">HHIH", data, offset)
        offset += 10
        content = data[offset : offset + length]
        records.append(socket.inet_ntoa(content) if kind == A else _name(content))
        offset += length
    return Reply(
        rcode=flags & 0xF,
        records=tuple(records),
        cut=bool(flags & 0x0200),
        authoritative=bool(flags & 0x0400),
        size=len(data),
    )


def by_udp(asker: socket.socket, server: str, data: bytes, *, timeout_s: float = 5.0) -> Reply:
    asker.settimeout(timeout_s)
    asker.sendto(data, (server, 53))
    return parse(asker.recv(65535))


def by_tcp(asker: socket.socket, server: str, *datas: bytes, timeout_s: float = 5.0) -> list[Reply]:
    asker.settimeout(timeout_s)
    asker.connect((server, 53))
    asker.sendall(b"".join(struct.pack(">H", len(data)) + data for data in datas))
    return [parse(read_framed(asker)) for _ in datas]


def read_framed(source: socket.socket) -> bytes:
    (length,) = struct.unpack(">H", _exactly(source, 2))
    return _exactly(source, length)


def _exactly(source: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        received = source.recv(length - len(data))
        if not received:
            raise ConnectionError("closed in the middle")
        data += received
    return data


def _skip_name(data: bytes, offset: int) -> int:
    while data[offset]:
        if data[offset] >= 0xC0:
            return offset + 2
        offset += data[offset] + 1
    return offset + 1


def _name(data: bytes) -> str:
    labels, offset = [], 0
    while data[offset]:
        labels.append(data[offset + 1 : offset + 1 + data[offset]].decode())
        offset += data[offset] + 1
    return ".".join(labels)
