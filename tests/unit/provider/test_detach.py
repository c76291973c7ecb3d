"""The keys that leave a container's terminal."""

import pytest

from provider.cli.detach import DEFAULT_KEYS, Detached, DetachKeys
from provider.errors import UsageError


@pytest.mark.parametrize("parts", [[b"\x10\x11"], [b"\x10", b"\x11"], [b"ab\x10\x10", b"\x11c"]])
def test_the_keys_leave(parts):
    keys = DetachKeys(DEFAULT_KEYS)
    with pytest.raises(Detached):
        [keys.passed(part) for part in parts]


@pytest.mark.parametrize(
    ("words", "parts", "passed"),
    [
        (DEFAULT_KEYS, [b"ls\n"], b"ls\n"),
        (DEFAULT_KEYS, [b"\x10x\x11"], b"\x10x\x11"),
        (DEFAULT_KEYS, [b"\x10", b"x"], b"\x10x"),
        (DEFAULT_KEYS, [b"x\x10"], b"x"),
        ("a,a,b", [b"aaac"], b"aaac"),
        ("", [b"\x10\x11"], b"\x10\x11"),
    ],
)
def test_everything_else_is_passed(words, parts, passed):
    keys = DetachKeys(words)
    assert b"".join(map(keys.passed, parts)) == passed


@pytest.mark.parametrize("words", ["ctrl-", "ctrl-1", "ab", ",", "ctrl-ä", "ä"])
def test_what_is_no_key_is_refused(words):
    with pytest.raises(UsageError, match="is no key"):
        DetachKeys(words)


def test_overlapping_beginnings_are_found():
    with pytest.raises(Detached):
        DetachKeys("a,a,b").passed(b"aaab")
