"""DNS messages: take a question apart, put an answer together. Pure, and for hostile input.

Only what a forwarder with a few names of its own needs: one question per message, no compression
but of the question's own name.

Source: RFC 1035 section 4, RFC 6891 (EDNS).
"""

import struct

QR = 0x8000
AA = 0x0400
TC = 0x0200
RD = 0x0100
RA = 0x0080
_OPCODE = 0x7800

NOERROR = 0
FORMERR = 1
SERVFAIL = 2
NXDOMAIN = 3
NOTIMP = 4
REFUSED = 5

TYPE_A = 1
TYPE_PTR = 12
TYPE_OPT = 41
CLASS_IN = 1
TYPE_ANY = 255

PLAIN_UDP_BYTES = 512
UDP_BYTES = 1232
"""Largest datagram we send: fits through any link without being cut (DNS flag day 2020)."""
HEADER_BYTES = 12

_HEADER = struct.Struct(">HHHHHH")
_TAIL = struct.Struct(">HH")
_RECORD = struct.Struct(">HHHIH")
_QUESTION_NAME = 0xC000 | HEADER_BYTES


class Question:
    """A request as far as we look at it."""

    __slots__ = ("edns", "flags", "id", "limit", "name", "qclass", "qtype", "raw")

    def __init__(
        self,
        *,
        id: int,
        flags: int,
        name: str,
        qtype: int,
        qclass: int,
        raw: bytes,
        edns: bool,
        limit: int,
    ) -> None:
        self.id = id
        self.flags = flags
        self.name = name
        """Lower case, without the last dot; bytes beyond ASCII as they are (latin-1)."""
        self.qtype = qtype
        self.qclass = qclass
        self.raw = raw
        """The question section, to be echoed as it came, upper case and all."""
        self.edns = edns
        self.limit = limit
        """Most bytes the asker takes in a datagram."""


class MessageError(Exception):
    """Not a request we can take apart; *rcode* is what to say, None: nothing."""

    def __init__(self, rcode: int | None) -> None:
        super().__init__(f"rcode {rcode}")
        self.rcode = rcode


def parse_question(data: bytes) -> Question:
    """Return the question of a request.

    Raises:
        MessageError: it is none, or a broken one.
    """
    if len(data) < HEADER_BYTES:
        raise MessageError(None)
    number, flags, questions, answers, authorities, additionals = _HEADER.unpack_from(data)
    if flags & QR:
        # Answering an answer could go on for ever.
        raise MessageError(None)
    if flags & _OPCODE:
        raise MessageError(NOTIMP)
    if questions != 1 or answers or authorities or additionals > 2:
        raise MessageError(FORMERR)
    name, offset = _read_name(data, HEADER_BYTES)
    if offset + _TAIL.size > len(data):
        raise MessageError(FORMERR)
    qtype, qclass = _TAIL.unpack_from(data, offset)
    end = offset + _TAIL.size
    edns, limit = _read_edns(data, end) if additionals else (False, PLAIN_UDP_BYTES)
    return Question(
        id=number,
        flags=flags,
        name=name,
        qtype=qtype,
        qclass=qclass,
        raw=data[HEADER_BYTES:end],
        edns=edns,
        limit=limit,
    )


def answer(
    question: Question, rcode: int, records: list[tuple[int, int, bytes]], *, limit: int
) -> bytes:
    """Return an answer of ours; *records* are (type, seconds to live, data), all of the name asked.

    Records that do not fit into *limit* bytes are left out and the answer is marked as cut.
    """
    tail = b"\0" + _RECORD.pack(TYPE_OPT, UDP_BYTES, 0, 0, 0)[:10] if question.edns else b""
    body = question.raw
    count = 0
    flags = QR | AA | RA | (question.flags & RD) | rcode
    for kind, ttl, data in records:
        record = struct.pack(">H", _QUESTION_NAME)
        record += struct.pack(">HHIH", kind, CLASS_IN, ttl, len(data)) + data
        if HEADER_BYTES + len(body) + len(record) + len(tail) > limit:
            flags |= TC
            break
        body += record
        count += 1
    header = _HEADER.pack(question.id, flags, 1, count, 0, 1 if tail else 0)
    return header + body + tail


def error(data: bytes, rcode: int) -> bytes:
    """Return an answer to a request that cannot be taken apart: header only."""
    number, flags = struct.unpack_from(">HH", data)
    return _HEADER.pack(number, QR | (flags & (_OPCODE | RD)) | RA | rcode, 0, 0, 0, 0)


def with_id(data: bytes, number: int) -> bytes:
    """Return the message with another id."""
    return struct.pack(">H", number) + data[2:]


def is_answer_to(data: bytes, number: int, raw_question: bytes) -> bool:
    """Return whether *data* answers the request with this id and question."""
    if len(data) < HEADER_BYTES:
        return False
    got: int
    flags: int
    questions: int
    got, flags, questions = struct.unpack_from(">HHH", data)
    if got != number or not flags & QR:
        return False
    if questions == 0:
        # Servers that cannot take the request apart echo no question.
        return flags & 0xF != NOERROR
    end = HEADER_BYTES + len(raw_question)
    return questions == 1 and data[HEADER_BYTES:end].lower() == raw_question.lower()


def rcode_of(data: bytes) -> int:
    """Return the result code of an answer."""
    return data[3] & 0xF


def cut(data: bytes, question: Question) -> bytes:
    """Return an answer that says no more than: ask again by TCP."""
    flags = struct.unpack_from(">H", data, 2)[0]
    return _HEADER.pack(question.id, flags | TC, 1, 0, 0, 0) + question.raw


def pack_name(name: str) -> bytes:
    """Return a name in wire form.

    Raises:
        ValueError: a label or the whole is too long.
    """
    packed = b""
    for label in name.encode("latin-1").split(b"."):
        if not 0 < len(label) < 64:
            raise ValueError(f"name {name!r} has a label of {len(label)} bytes")
        packed += bytes([len(label)]) + label
    if len(packed) > 254:
        raise ValueError(f"name {name!r} is too long")
    return packed + b"\0"


def address_of_reverse(name: str) -> str | None:
    """Return the IPv4 address ``4.3.2.1.in-addr.arpa`` asks for, or None for other names."""
    labels = name.split(".")
    if len(labels) != 6 or labels[4:] != ["in-addr", "arpa"]:
        return None
    octets = labels[3::-1]
    if not all(o.isascii() and o.isdigit() and len(o) <= 3 and int(o) < 256 for o in octets):
        return None
    return ".".join(str(int(o)) for o in octets)


def _read_name(data: bytes, offset: int) -> tuple[str, int]:
    labels = []
    total = 0
    while True:
        if offset >= len(data):
            raise MessageError(FORMERR)
        length = data[offset]
        offset += 1
        if not length:
            break
        # Pointers make no sense in a question, and loops of them have hung many a server.
        if length > 63 or offset + length > len(data):
            raise MessageError(FORMERR)
        total += length + 1
        if total > 254:
            raise MessageError(FORMERR)
        labels.append(data[offset : offset + length].decode("latin-1").lower())
        offset += length
    return ".".join(labels), offset


def _read_edns(data: bytes, offset: int) -> tuple[bool, int]:
    if len(data) < offset + 11 or data[offset]:
        return False, PLAIN_UDP_BYTES
    kind, size = struct.unpack_from(">HH", data, offset + 1)
    if kind != TYPE_OPT:
        return False, PLAIN_UDP_BYTES
    return True, max(PLAIN_UDP_BYTES, min(size, UDP_BYTES))
