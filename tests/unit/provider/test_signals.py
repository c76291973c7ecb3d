"""Stop signals as manifests and images write them."""

import pytest

from provider.drivers.container_config import signal_number
from provider.errors import ApplyError


@pytest.mark.parametrize(
    ("word", "number"),
    [("TERM", 15), ("SIGTERM", 15), ("15", 15), ("sigrtmin+3", 37), ("64", 64)],
)
def test_a_signal_has_a_number(word, number):
    assert signal_number(word) == number


@pytest.mark.parametrize(
    "word", ["99", "65", "0", "-1", "", "+1", "FOO", "TERM+x", "SIGRTMIN+99", "\u00b2", "9 9"]
)
def test_what_is_no_signal_is_refused(word):
    with pytest.raises(ApplyError, match="there is no signal"):
        signal_number(word)
