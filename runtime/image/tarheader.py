"""Tar headers: from 512 bytes to numbers and names. Pure.

Knows ustar, the GNU and pax extensions and base-256 numbers.

Sources: POSIX pax(1), "ustar Interchange Format" and "pax Extended Header"; GNU tar manual,
"Basic Tar Format" and "Storing Sparse Files"; star(5) for SCHILY.xattr.
"""

import struct
import zlib
from typing import NamedTuple

from runtime.errors import LayerError

BLOCK = 512
ZERO_BLOCK = bytes(BLOCK)
XATTR = "SCHILY.xattr."
_FIELDS = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
# Adler-32's low half is one plus the sum of the bytes modulo this prime: a C-speed byte sum.
_ADLER = 65521


class RawHeader(NamedTuple):
    """The fields of one header block, numbers decoded and names cut at their NUL."""

    name: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    kind: bytes
    link: bytes
    major: int
    minor: int


def parse_header(block: bytes) -> RawHeader:
    """Decode one header block.

    Raises:
        LayerError: wrong checksum, or a field is not a number.
    """
    (
        name, mode, uid, gid, size, mtime, checksum, kind,
        link, magic, _user, _group, major, minor, prefix,
    ) = _FIELDS.unpack(block)  # fmt: skip
    _check_sum(block, checksum)
    if b"\0" in name:
        name = name[: name.index(b"\0")]
    if b"\0" in link:
        link = link[: link.index(b"\0")]
    # Old GNU headers keep times where ustar has the prefix; only "ustar\0" means a prefix.
    if magic.startswith(b"ustar\0") and prefix[0]:
        name = prefix.partition(b"\0")[0] + b"/" + name
    device = kind in b"34"
    return RawHeader(
        name,
        parse_number(mode) & 0o7777,
        parse_number(uid),
        parse_number(gid),
        parse_number(size),
        parse_number(mtime),
        kind,
        link,
        parse_number(major) if device else 0,
        parse_number(minor) if device else 0,
    )


def parse_number(field: bytes) -> int:
    """Decode an octal or base-256 field; blank is zero.

    Raises:
        LayerError: neither.
    """
    if field[0] & 0x80:
        # Two's complement; the top bit of the first byte is the mark, not a sign.
        value = int.from_bytes(bytes((field[0] & 0x7F,)) + field[1:], "big")
        bits = 8 * len(field) - 1
        return value - (1 << bits) if value >> (bits - 1) else value
    text = field.strip(b" \0")
    if b"\0" in text:
        text = text[: text.index(b"\0")].rstrip(b" ")
    if not text:
        return 0
    try:
        # int() alone would take signs and underscores.
        if not text.isdigit():
            raise ValueError
        return int(text, 8)
    except ValueError:
        raise LayerError(f"tar header has a bad number: {field!r}") from None


def parse_pax(data: bytes) -> list[tuple[str, bytes]]:
    """Return the records of a pax header in order, repeated keys included.

    Raises:
        LayerError: malformed.
    """
    records = []
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 12)
        digits = data[position:space] if space >= 0 else b""
        if not digits.isdigit():
            raise LayerError("pax header is malformed: no record length")
        end = position + int(digits)
        if end > len(data) or end <= space + 1 or data[end - 1 : end] != b"\n":
            raise LayerError("pax header is malformed: record length is wrong")
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not equals or not key or b"\0" in key:
            raise LayerError("pax header is malformed: record is not key=value")
        records.append((key.decode("utf-8", "surrogateescape"), value))
        position = end
    return records


def parse_pax_number(key: str, value: bytes) -> int:
    """Decode a decimal number of a pax record.

    Raises:
        LayerError: not a number a tar can mean.
    """
    if not value.isdigit() or len(value) > 20:
        raise LayerError(f"pax header is malformed: {key} is {value[:40]!r}")
    return int(value)


def parse_pax_time(value: bytes) -> int:
    """Decode seconds with a fraction to nanoseconds, exactly; no float is involved.

    Raises:
        LayerError: not a time.
    """
    sign = -1 if value.startswith(b"-") else 1
    seconds, _, fraction = value.lstrip(b"-").partition(b".")
    whole = seconds + fraction
    if not whole.isdigit() or not seconds or len(seconds) > 18:
        raise LayerError(f"pax header is malformed: mtime is {value[:40]!r}")
    return sign * (int(seconds) * 10**9 + int(fraction[:9].ljust(9, b"0") or b"0"))


def _check_sum(block: bytes, field: bytes) -> None:
    claimed = parse_number(field)
    total = (zlib.adler32(block) & 0xFFFF) - 1 - sum(field) + 8 * 0x20
    if (total - claimed) % _ADLER == 0 and claimed <= BLOCK * 255:
        return
    # Some old tars summed signed characters.
    rest = block[:148] + block[156:]
    if claimed == sum(rest) - 256 * sum(byte > 127 for byte in rest) + 8 * 0x20:
        return
    raise LayerError("tar header has a wrong checksum")
