"""What a plan says about the host before the first network is made."""

from pathlib import Path

import pytest

from provider.drivers.network import NetworkObserver
from provider.model.ids import Kind
from provider.model.plan import Action, Verb
from runtime.network import network
from runtime.root import Root
from tests.support import builders as b
from tests.support.testhost import run, test_host

pytestmark = pytest.mark.kernel

TREE = {"subnet": "10.79.1.0/24", "gateway": "10.79.1.1", "internal": False, "mtu": None}
SAID = (
    "net.ipv4.ip_forward of this host is 0 and will be 1: from then on it passes packets on"
    " between its links"
)


def said(root: Root, verb: Verb) -> list[str]:
    action = Action(b.iid(Kind.NETWORK, "front"), verb, after=TREE)
    return [finding.message for finding in NetworkObserver(root).preflight([action])]


def test_that_the_host_will_forward_is_said(world: Path) -> None:
    root = Root.at(world)
    with test_host(world):
        assert said(root, Verb.CREATE) == [SAID]
        assert said(root, Verb.DELETE) == []
        network.ensure_network(root, "shop.front.1")
        assert said(root, Verb.CREATE) == []
        network.delete_network(root, "shop.front.1")
        run("sysctl -q -w net.ipv4.ip_forward=0")
        assert said(root, Verb.UPDATE) == [SAID]


def test_a_subnet_in_use_is_refused_unless_it_becomes_free(world: Path) -> None:
    root = Root.at(world)
    with test_host(world):
        run("ip link add other type bridge")
        run("ip addr add 10.79.1.128/25 dev other")
        run("ip link set other up")
        assert "subnet 10.79.1.0/24 overlaps 10.79.1.128/25 of a route of this host" in said(
            root, Verb.CREATE
        )
        run("ip link del other")
        # One of the same name, left by an apply that was cut off, makes room.
        network.ensure_network(root, "shop.front.1", subnet=TREE["subnet"])
        assert said(root, Verb.CREATE) == []
        network.delete_network(root, "shop.front.1")
        network.ensure_network(root, "shop.back.1", subnet=TREE["subnet"])
        assert any("overlaps 10.79.1.0/24 of" in text for text in said(root, Verb.CREATE))
