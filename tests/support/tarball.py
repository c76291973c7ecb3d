"""Tars made by hand, byte by byte: no library would write what a hostile one contains."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

BLOCK = 512
END = bytes(2 * BLOCK)


def header(
    name: bytes,
    *,
    kind: bytes = b"0",
    size: int = 0,
    mode: int = 0o644,
    uid: int | None = None,
    gid: int | None = None,
    mtime: int = 1_600_000_000,
    link: bytes = b"",
    device: tuple[int, int] = (0, 0),
    prefix: bytes = b"",
    magic: bytes = b"ustar\x0000",
    raw_size: bytes | None = None,
) -> bytes:
    """One header block with a right checksum, whatever else is in it."""
    uid = os.geteuid() if uid is None else uid
    gid = os.getegid() if gid is None else gid
    block = bytearray(BLOCK)
    block[0 : len(name)] = name
    block[100:108] = b"%07o\0" % mode
    block[108:116] = _number(uid, 8)
    block[116:124] = _number(gid, 8)
    block[124:136] = _number(size, 12) if raw_size is None else raw_size
    block[136:148] = _number(mtime, 12)
    block[156:157] = kind
    block[157 : 157 + len(link)] = link
    block[257:265] = magic
    block[329:337] = b"%07o\0" % device[0]
    block[337:345] = b"%07o\0" % device[1]
    block[345 : 345 + len(prefix)] = prefix
    return sign(block)


def sign(block: bytes | bytearray) -> bytes:
    """Return *block* with its checksum."""
    signed = bytearray(block)
    signed[148:156] = b" " * 8
    signed[148:156] = b"%06o\0 " % sum(signed)
    return bytes(signed)


def padded(data: bytes) -> bytes:
    """Return *data* filled up to whole blocks."""
    return data + bytes(-len(data) % BLOCK)


def file(name: bytes, data: bytes = b"", **fields: object) -> bytes:
    """A regular file with its data."""
    return header(name, size=len(data), **fields) + padded(data)  # type: ignore[arg-type]


def folder(name: bytes, **fields: object) -> bytes:
    """A folder."""
    return header(name, kind=b"5", **{"mode": 0o755, **fields})  # type: ignore[arg-type]


def symlink(name: bytes, target: bytes, **fields: object) -> bytes:
    """A symbolic link."""
    return header(name, kind=b"2", link=target, mode=0o777, **fields)  # type: ignore[arg-type]


def hardlink(name: bytes, target: bytes) -> bytes:
    """A hard link to an earlier member."""
    return header(name, kind=b"1", link=target)


def pax(records: dict[str, bytes | str] | list[tuple[str, str]], *, kind: bytes = b"x") -> bytes:
    """An extended header for the member after it; a list may repeat keys."""
    body = b""
    for key, value in records.items() if isinstance(records, dict) else records:
        value = value.encode() if isinstance(value, str) else value
        text = b" " + key.encode() + b"=" + value + b"\n"
        size = len(text) + 1
        while len(str(size)) + len(text) != size:
            size += 1
        body += b"%d" % size + text
    return header(b"PaxHeaders/x", kind=kind, size=len(body)) + padded(body)


def gnu_long(name: bytes, *, kind: bytes = b"L") -> bytes:
    """GNU's header for a long name (``L``) or link (``K``) of the member after it."""
    data = name + b"\0"
    return header(b"././@LongLink", kind=kind, size=len(data)) + padded(data)


def digest(data: bytes) -> str:
    """The sha256 digest of *data*."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def snapshot(top: Path) -> dict[str, tuple[object, ...]]:
    """Everything about a tree that an attack could change."""
    found: dict[str, tuple[object, ...]] = {}
    for path in [top, *sorted(top.rglob("*"))]:
        status = path.lstat()
        content: object = None
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = path.read_bytes()
        found[str(path.relative_to(top))] = (
            oct(status.st_mode),
            status.st_uid,
            status.st_gid,
            status.st_nlink,
            status.st_mtime_ns,
            content,
        )
    return found


def _number(value: int, width: int) -> bytes:
    if 0 <= value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    return b"\x80" + value.to_bytes(width - 1, "big", signed=True)
