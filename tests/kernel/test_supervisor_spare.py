"""A container that shares published traffic and is about to be stopped, as others read of it."""

import pytest

from runtime.errors import NotFoundError
from runtime.supervisor import status
from runtime.supervisor.request import Restart
from tests.support.supervised import Supervised
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kernel

PATIENT = "trap 'while :; do sleep 0.01; done' TERM; echo up; while :; do sleep 0.01; done"


@pytest.fixture
def host(world):
    host = Supervised(world)
    yield host
    host.close()


def ending(host) -> bool:
    return status.read(host.root, "a").ending


def test_it_counts_as_ending_before_it_is_stopped_and_until_it_starts_again(host):
    host.launch("a", PATIENT, balanced=True)
    with host.client.spare("a"):
        assert ending(host)
        host.client.stop("a", grace=0.05)
        assert ending(host)
    assert host.client.status("a").ending
    host.launch("a", PATIENT, balanced=True)
    assert not ending(host)


def test_if_it_is_not_stopped_after_all_it_counts_again(host):
    host.launch("a", PATIENT, balanced=True)
    with host.client.spare("a"):
        assert ending(host)
    wait_until(lambda: not ending(host))


def test_the_next_supervisor_does_not_believe_in_a_stop_that_never_came(host):
    host.launch("a", PATIENT, balanced=True)
    with host.client.spare("a"):
        host.kill_supervisor()
        assert not host.client.status("a").ending


def test_one_that_shares_nothing_is_spared_nothing(host):
    host.launch("a", PATIENT)
    with host.client.spare("a"):
        assert not ending(host)
    with pytest.raises(NotFoundError), host.client.spare("b"):
        pass


def test_killed_by_hand_it_is_ending_at_once(host):
    host.launch("a", PATIENT, balanced=True, restart=Restart(policy="always"))
    with host.client.spare("a"):
        host.client.kill("a", 9)
        assert ending(host)
    host.wait_status("a", lambda told: told.ended and told.spared)
