"""Ports that other tables redirect: other worlds', and other programs'."""

from pathlib import Path

import pytest

from runtime.errors import ConflictError
from runtime.network import claims, firewall, network
from runtime.network.firewall import Publication
from runtime.root import Root
from tests.support.testhost import nft, run, test_host

pytestmark = pytest.mark.kernel

DOCKER = """
-N DOCKER
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
-A DOCKER -d 10.9.9.9/32 ! -i docker0 -p udp --dport 9000:9010 -j DNAT --to-destination 172.17.0.2
-A DOCKER -p tcp -m multiport --dports 53,54 -j DNAT --to-destination 172.17.0.2:80
"""


def takers(root: Root, port: int, protocol: str = "tcp", ip: str = "0.0.0.0") -> list[tuple]:
    wanted = Publication(port, protocol, ip=ip)
    found = [claim for claim in claims.foreign_claims(root) if claim.takes(wanted)]
    return [(claim.table, claim.of_world, claim.certain) for claim in found]


def test_another_world_is_named_where_addresses_meet(world: Path) -> None:
    here, there = Root.at(world / "here"), Root.at(world / "there")
    with test_host(world):
        ip = network.ensure_network(there, "a").gateway
        published = (
            Publication(80, "tcp", ((ip, 80),)),
            Publication(81, "udp", ((ip, 80),), "127.0.0.1"),
        )
        firewall.publish(there, "shop/web", published)
        theirs = [(f"inet {there.nft_table}", True, True)]

        assert takers(here, 80) == takers(here, 80, ip="127.0.0.1") == theirs
        assert takers(here, 80, "udp") == takers(here, 81, "tcp") == takers(here, 82) == []
        assert takers(here, 81, "udp") == takers(here, 81, "udp", "127.0.0.1") == theirs
        assert takers(here, 81, "udp", "10.0.0.1") == []
        assert takers(there, 80) == []

        firewall.unpublish(there, "shop/web")
        assert takers(here, 80) == []
        network.delete_network(there, "a")


def test_redirections_by_iptables_are_seen(world: Path) -> None:
    root = Root.at(world)
    with test_host(world):
        for line in DOCKER.strip().splitlines():
            run(f"iptables -t nat {line}")

        assert takers(root, 8080) == [("ip nat", False, False)]
        assert takers(root, 8080, "udp") == takers(root, 8081) == []
        assert takers(root, 9005, "udp") == [("ip nat", False, False)]
        assert takers(root, 9005, "udp", "10.9.9.8") == []
        # The extension does not tell nft its ports: better silent than wrong.
        assert takers(root, 53) == []


def test_redirections_by_nft_are_seen(world: Path) -> None:
    root = Root.at(world)
    with test_host(world):
        nft(
            "table inet other { set doors { type inet_service; elements = { 70, 80 }; }; "
            "chain inner { dnat ip to 10.1.1.1; }; "
            "chain p { type nat hook prerouting priority dstnat; "
            "fib daddr type local tcp dport @doors dnat ip to 10.1.1.1:80; "
            "meta mark 7 udp dport 99 redirect to :53; "
            "ip daddr 10.2.0.0/16 tcp dport 5000-5002 jump inner; }; "
            "chain o { type nat hook output priority -100; tcp dport 33 redirect to :34; }; }"
        )

        assert takers(root, 80) == [("inet other", False, True)]
        assert takers(root, 81) == takers(root, 33) == []
        assert takers(root, 99, "udp") == [("inet other", False, False)]
        assert takers(root, 5001, ip="10.2.3.4") == takers(root, 5001)
        assert takers(root, 5001) == [("inet other", False, True)]
        assert takers(root, 5001, ip="10.3.3.4") == takers(root, 5003) == []


def test_all_addresses_and_one_of_them_meet_within_a_world(world: Path) -> None:
    root = Root.at(world)
    with test_host(world):
        ip = network.ensure_network(root, "a").gateway
        firewall.publish(root, "one", (Publication(80, "tcp", ((ip, 80),), "127.0.0.1"),))
        firewall.publish(root, "two", (Publication(80, "tcp", ((ip, 80),), "10.0.0.1"),))
        with pytest.raises(ConflictError, match="port 80/tcp is published by one"):
            firewall.publish(root, "three", (Publication(80, "tcp", ((ip, 80),)),))
        firewall.unpublish(root, "one")
        firewall.unpublish(root, "two")
        network.delete_network(root, "a")
