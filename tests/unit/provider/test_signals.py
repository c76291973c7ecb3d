"""Stop signals as manifests and images write them."""

import pytest

from provider.model.signals import signal_number


@pytest.mark.parametrize(
    ("word", "number"),
    [("TERM", 15), ("SIGTERM", 15), ("15", 15), ("sigrtmin+3", 37), ("64", 64), ("RTMAX-1", 63)],
)
def test_a_signal_has_a_number(word, number):
    assert signal_number(word) == number


@pytest.mark.parametrize(
    "word", ["99", "65", "0", "-1", "", "+1", "FOO", "TERM+x", "SIGRTMIN+99", "\u00b2", "9 9"]
)
def test_what_is_no_signal_is_refused(word):
    with pytest.raises(ValueError, match="there is no signal"):
        signal_number(word)


def test_an_unknown_name_is_no_number_with_an_offset():
    with pytest.raises(ValueError, match="there is no signal FOO\\+3"):
        signal_number("FOO+3")
