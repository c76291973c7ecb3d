import struct

from hypothesis import given
from hypothesis import strategies as st

from runtime.kernel.netlink import NLA_F_NESTED, attribute, attributes, nested, text


@given(st.dictionaries(st.integers(1, 0x3FFF), st.binary(max_size=40)))
def test_attributes_come_out_as_they_went_in(given_: dict[int, bytes]) -> None:
    packed = b"".join(attribute(kind, data) for kind, data in given_.items())
    assert len(packed) % 4 == 0
    assert attributes(b"head" + packed, 4) == given_


def test_nesting_is_marked_and_read_without_the_mark() -> None:
    packed = nested(18, text(1, "veth"))
    assert struct.unpack_from("=HH", packed)[1] == 18 | NLA_F_NESTED
    assert attributes(attributes(packed)[18]) == {1: b"veth\0"}


@given(st.binary(max_size=64))
def test_torn_attributes_end_the_reading(data: bytes) -> None:
    assert all(len(value) <= len(data) for value in attributes(data).values())
