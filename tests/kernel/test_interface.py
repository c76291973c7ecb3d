"""Addresses of an interface, in a network namespace of its own."""

from contextlib import closing

import pytest

from runtime.kernel import interface
from runtime.kernel.namespaces import CLONE_NEWNET, unshare
from tests.support.forks import in_fork

pytestmark = pytest.mark.kernel


def test_however_many_addresses_there_are_all_are_known_again():
    def labels() -> set[str]:
        with closing(interface._any_socket()) as any_socket:
            return set(interface._labels(any_socket))

    def body() -> int:
        unshare(CLONE_NEWNET)
        assert labels() == set()
        interface.set_loopback_up()
        interface.set_extra_addresses("lo", [f"10.1.{n // 250}.{n % 250 + 1}" for n in range(600)])
        assert len(labels()) == 601  # and that it began with
        interface.set_extra_addresses("lo", ["10.1.2.3"])
        assert labels() == {"lo", "lo:0a010203"}
        return 0

    code, _out, errors = in_fork(body)
    assert code == 0, errors
