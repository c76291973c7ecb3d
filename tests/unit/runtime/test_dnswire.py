import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.network import dnswire
from tests.support.dnsclient import AAAA, PTR, parse, question


def test_a_question_is_taken_apart() -> None:
    found = dnswire.parse_question(question("Web.Shop", AAAA, number=9, edns=4096))
    assert (found.id, found.name, found.qtype, found.qclass) == (9, "web.shop", AAAA, 1)
    assert found.edns
    assert found.limit == dnswire.UDP_BYTES
    assert b"Web" in found.raw


def test_without_edns_the_old_limit_holds() -> None:
    assert dnswire.parse_question(question("web")).limit == 512
    assert dnswire.parse_question(question("web", edns=100)).limit == 512


@pytest.mark.parametrize(
    ("data", "rcode"),
    [
        (b"", None),
        (question("web")[:11], None),
        (question("web")[:2] + b"\x81" + question("web")[3:], None),
        (question("web")[:2] + b"\x28" + question("web")[3:], dnswire.NOTIMP),
        (question("web")[:5] + b"\2" + question("web")[6:], dnswire.FORMERR),
        (question("web")[:-1], dnswire.FORMERR),
        (question("web")[:12] + b"\xc0\x0c\0\1\0\1", dnswire.FORMERR),
    ],
    ids=["nothing", "short", "an answer", "other opcode", "two questions", "torn", "pointer"],
)
def test_what_is_no_question_is_refused(data: bytes, rcode: int | None) -> None:
    with pytest.raises(dnswire.MessageError) as caught:
        dnswire.parse_question(data)
    assert caught.value.rcode == rcode


@given(st.binary(max_size=600))
def test_noise_is_a_question_or_refused_and_nothing_else(data: bytes) -> None:
    rcode = None
    try:
        dnswire.parse_question(data)
    except dnswire.MessageError as error:
        rcode = error.rcode
    if rcode is not None:
        assert parse(dnswire.error(data, rcode)).rcode == rcode


def test_an_answer_that_does_not_fit_is_marked_as_cut() -> None:
    asked = dnswire.parse_question(question("web", edns=4096))
    records = [(dnswire.TYPE_A, 5, bytes([10, 0, 0, n])) for n in range(100)]

    whole = parse(dnswire.answer(asked, 0, records, limit=65535))
    short = parse(dnswire.answer(asked, 0, records, limit=512))

    assert (len(whole.records), whole.cut) == (100, False)
    assert short.cut
    assert short.size <= 512
    assert 0 < len(short.records) < 100


def test_only_the_answer_to_the_question_counts() -> None:
    asked = dnswire.parse_question(question("web", number=9))
    reply = dnswire.answer(asked, 0, [], limit=512)

    assert dnswire.is_answer_to(reply, 9, asked.raw)
    assert dnswire.is_answer_to(reply, 9, asked.raw.upper())
    assert not dnswire.is_answer_to(reply, 8, asked.raw)
    assert not dnswire.is_answer_to(reply, 9, question("wob")[12:])
    assert not dnswire.is_answer_to(question("web", number=9), 9, asked.raw)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("4.3.2.1.in-addr.arpa", "1.2.3.4"),
        ("3.2.1.in-addr.arpa", None),
        ("400.3.2.1.in-addr.arpa", None),
        ("x.3.2.1.in-addr.arpa", None),
        ("4.3.2.1.ip6.arpa", None),
        ("web", None),
    ],
)
def test_reverse_names(name: str, address: str | None) -> None:
    assert dnswire.address_of_reverse(name) == address


def test_a_name_for_an_answer() -> None:
    asked = dnswire.parse_question(question("2.0.9.10.in-addr.arpa", PTR))
    reply = dnswire.answer(
        asked, 0, [(dnswire.TYPE_PTR, 5, dnswire.pack_name("web.shop"))], limit=512
    )
    assert parse(reply).records == ("web.shop",)
    with pytest.raises(ValueError, match="label of 64 bytes"):
        dnswire.pack_name("x" * 64)
