"""`json_text` reads, writes and refuses as `json` does."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import json_text

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)
NO_JSON = (
    b"",
    b" ",
    b"{",
    b"[1,]",
    b'{"a" 1}',
    b"1 2",
    b"nul",
    b'"\x01"',
    b'"\\ud8"',
    b"\xff",
    b"01",
)
ODD = (b"\xef\xbb\xbf[1]", b" \n[1, 2]\t", b"NaN", b"[-Infinity]", '"\u00e9"'.encode("utf-16"))


def outcome(loads, text):
    try:
        return repr(loads(text))
    except ValueError as error:
        return f"{type(error)}: {error}"


@given(VALUES)
def test_what_is_written_is_what_json_writes_and_is_read_back(value):
    text = json_text.dumps(value)
    assert text == json.dumps(value)
    assert json_text.dumps(value, compact=True) == json.dumps(value, separators=(",", ":"))
    assert json_text.dumps_indented(value) == json.dumps(value, indent=2)
    assert json_text.dumps(json_text.loads(text.encode())) == text


@given(st.binary(max_size=12) | st.text('[]{}",:0123eE+-. \\untrlfase\n', max_size=12))
def test_what_is_read_is_what_json_reads(text):
    assert outcome(json_text.loads, text) == outcome(json.loads, text)


@pytest.mark.parametrize("text", [*NO_JSON, *ODD])
def test_odd_texts_are_taken_and_refused_alike(text):
    assert outcome(json_text.loads, text) == outcome(json.loads, text)


def test_what_no_json_can_hold_is_refused():
    with pytest.raises(TypeError, match="Object of type bytes is not JSON serializable"):
        json_text.dumps({"a": b""})
    deep = b"[" * 100_000
    with pytest.raises(RecursionError):
        json_text.loads(deep)
    assert math.isinf(json_text.loads("Infinity"))
