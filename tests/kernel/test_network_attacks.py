"""Packets to 127.0.0.1 from where they must not come, and others' addresses; and the controls.

Each attack is also run with the rule that stops it removed, where it then succeeds: so the attack
is a real one, and it is that rule which stops it. Background: CVE-2020-8558.
"""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.network import attachment, firewall, network
from runtime.network.firewall import Publication
from runtime.root import Root
from tests.support.testhost import (
    HOST,
    REFUSED_S,
    TestHost,
    ask_tcp,
    inside,
    nft,
    run,
    silent,
    test_host,
)

pytestmark = pytest.mark.kernel


class Stage:
    def __init__(self, root: Root, host: TestHost) -> None:
        self.root, self.host = root, host
        self.network = network.ensure_network(root, "a")
        self.evil = host.namespace("evil")
        self.evil_ip = attachment.attach(root, "a", "evil", self.evil).ip
        victim = host.namespace("victim")
        self.victim_ip = attachment.attach(root, "a", "victim", victim).ip
        host.tcp(victim, 80, says="victim")
        host.tcp(None, 6379, says="secret", ip="127.0.0.1")
        publication = Publication(8080, "tcp", ((self.victim_ip, 80),), "127.0.0.1")
        firewall.publish(root, "shop/web", (publication,))

    def drop_rules(self, chain: str) -> None:
        nft(f"flush chain inet {self.root.nft_table} {chain}")


@pytest.fixture
def stage(world: Path) -> Iterator[Stage]:
    with test_host(world) as host:
        yield Stage(Root.at(world), host)


def _send_localhost_to(where: str, gateway: str) -> None:
    """Make *where* send packets for 127.0.0.1 out on its wire, as an attacker would."""
    inside(where, lambda: run("sysctl -q -w net.ipv4.conf.eth0.route_localnet=1"))
    inside(where, lambda: run("ip addr flush dev lo"))
    inside(where, lambda: run(f"ip route add 127.0.0.1/32 via {gateway} dev eth0"))


def test_a_container_does_not_reach_the_localhost_of_the_host(stage: Stage) -> None:
    _send_localhost_to(stage.evil, stage.network.gateway)

    assert ask_tcp(None, "127.0.0.1", 6379).startswith("secret")
    assert silent(ask_tcp, stage.evil, "127.0.0.1", 6379)
    assert silent(ask_tcp, stage.evil, "127.0.0.1", 8080)

    stage.drop_rules("raw")
    assert ask_tcp(stage.evil, "127.0.0.1", 6379).startswith("secret")


def test_a_neighbour_does_not_reach_the_localhost_of_the_host(stage: Stage) -> None:
    _send_localhost_to(stage.host.neighbour, HOST)

    assert silent(ask_tcp, stage.host.neighbour, "127.0.0.1", 6379)


def test_a_neighbour_does_not_reach_a_port_published_on_localhost(stage: Stage) -> None:
    _send_localhost_to(stage.host.neighbour, HOST)

    assert ask_tcp(None, "127.0.0.1", 8080).startswith("victim")
    assert silent(ask_tcp, stage.host.neighbour, "127.0.0.1", 8080)

    table = stage.root.nft_table
    rules = run(f"nft -a list chain inet {table} prerouting").splitlines()
    (handle,) = (line.split()[-1] for line in rules if "return" in line)
    nft(f"delete rule inet {table} prerouting handle {handle}")
    assert ask_tcp(stage.host.neighbour, "127.0.0.1", 8080).startswith("victim")


def test_a_container_cannot_send_with_an_address_of_elsewhere(stage: Stage) -> None:
    elsewhere = "203.0.113.9"
    inside(stage.evil, lambda: run(f"ip addr add {elsewhere}/32 dev eth0"))

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind((elsewhere, 0))
            sender.sendto(b"?", (stage.network.gateway, 9999))

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("0.0.0.0", 9999))
        receiver.settimeout(REFUSED_S)
        inside(stage.evil, send)
        with pytest.raises(TimeoutError):
            receiver.recvfrom(16)

        run(f"sysctl -q -w net.ipv4.conf.{stage.network.bridge}.rp_filter=0")
        inside(stage.evil, send)
        assert receiver.recvfrom(16)[1][0] == elsewhere
