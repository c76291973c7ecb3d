"""Writes a tar whose bytes depend on its entries and on nothing else.

ustar where it suffices, pax records where it does not (long names, big numbers, fractions of a
second, extended attributes); no user names, no access times.
"""

import struct
from collections.abc import Callable, Iterable

from runtime.image.tarentry import Entry, Kind
from runtime.image.tarheader import BLOCK, XATTR, ZERO_BLOCK

_TYPES = {
    Kind.FILE: b"0",
    Kind.HARDLINK: b"1",
    Kind.SYMLINK: b"2",
    Kind.CHARACTER: b"3",
    Kind.BLOCK: b"4",
    Kind.FOLDER: b"5",
    Kind.FIFO: b"6",
}
_FIELDS = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_GIGA = 1_000_000_000


class TarWriter:
    """Gives the tar to *write* piece by piece; `close` writes the end mark."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write

    def add(self, entry: Entry, data: Iterable[bytes] = ()) -> None:
        """Append *entry*; *data* must have exactly its size.

        Raises:
            ValueError: *data* is shorter or longer; the tar is then of no use.
        """
        self._write(_encode(entry))
        written = 0
        for piece in data:
            self._write(piece)
            written += len(piece)
        if written != entry.size:
            raise ValueError(f"{entry.path!r}: {written} bytes instead of {entry.size}")
        if written % BLOCK:
            self._write(bytes(-written % BLOCK))

    def close(self) -> None:
        """Write the end mark."""
        self._write(ZERO_BLOCK * 2)


def _encode(entry: Entry) -> bytes:
    path = entry.path
    if entry.kind is Kind.FOLDER and not path.endswith(b"/"):
        path += b"/"
    seconds, fraction = divmod(entry.mtime_ns, _GIGA)
    records: dict[str, bytes] = {}
    name, prefix = path, b""
    if len(path) > 100:
        name, prefix = _split(path)
    if not name or not path.isascii():
        records["path"] = path
        name, prefix = path[:100], b""
    if len(entry.link) > 100 or not entry.link.isascii():
        records["linkpath"] = entry.link
    numbers = (("uid", entry.uid, 8**7), ("gid", entry.gid, 8**7), ("size", entry.size, 8**11))
    records |= {key: b"%d" % number for key, number, limit in numbers if number >= limit}
    if fraction or not 0 <= seconds < 8**11:
        records["mtime"] = _time(entry.mtime_ns)
    for key, value in entry.xattrs:
        records[XATTR + key] = value
    header = _header(entry, name, prefix, seconds)
    if not records:
        return header
    body = b"".join(_record(key, value) for key, value in sorted(records.items()))
    extended = Entry(b"PaxHeaders/" + name.rstrip(b"/")[-80:], size=len(body), mtime_ns=0)
    padding = bytes(-len(body) % BLOCK)
    return _header(extended, extended.path, b"", 0, kind=b"x") + body + padding + header


def _header(
    entry: Entry, name: bytes, prefix: bytes, seconds: int, *, kind: bytes | None = None
) -> bytes:
    block = bytearray(
        _FIELDS.pack(
            name,
            _octal(entry.mode, 8),
            _octal(entry.uid, 8),
            _octal(entry.gid, 8),
            _octal(entry.size, 12),
            _octal(seconds, 12),
            b" " * 8,
            kind or _TYPES[entry.kind],
            entry.link[:100],
            b"ustar\x0000",
            b"",
            b"",
            _octal(entry.major, 8),
            _octal(entry.minor, 8),
            prefix,
        )
    )
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def _octal(value: int, width: int) -> bytes:
    """Encode; what does not fit is zero here and said in a pax record."""
    fits = 0 <= value < 8 ** (width - 1)
    return b"%0*o\0" % (width - 1, value if fits else 0)


def _split(path: bytes) -> tuple[bytes, bytes]:
    """Return name and prefix for ustar; an empty name if there is no place to cut."""
    cut = path.find(b"/", max(0, len(path) - 101), min(156, len(path) - 1))
    return (path[cut + 1 :], path[:cut]) if cut > 0 else (b"", b"")


def _record(key: str, value: bytes) -> bytes:
    text = b" " + key.encode("utf-8", "surrogateescape") + b"=" + value + b"\n"
    size = len(text)
    while len(str(size)) + len(text) != size:
        size = len(str(size)) + len(text)
    return b"%d" % size + text


def _time(nanoseconds: int) -> bytes:
    sign = b"-" if nanoseconds < 0 else b""
    seconds, fraction = divmod(abs(nanoseconds), _GIGA)
    text = b"%d.%09d" % (seconds, fraction)
    return sign + text.rstrip(b"0").rstrip(b".")
