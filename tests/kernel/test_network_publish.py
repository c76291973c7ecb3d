"""Who reaches what: published ports, isolation, the way out. In a host of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.errors import ConflictError, NetworkError
from runtime.network import attachment, firewall, network
from runtime.network.firewall import Publication
from runtime.network.observe import observe
from runtime.root import Root
from tests.support.host import cannot
from tests.support.testhost import (
    HOST,
    NEIGHBOUR,
    TestHost,
    ask_tcp,
    ask_udp,
    inside,
    run,
    silent,
    test_host,
)

pytestmark = pytest.mark.kernel


class Town:
    """Two ordinary networks and an internal one: containers a1 a2 | b1 | i1 i2."""

    def __init__(self, root: Root, host: TestHost) -> None:
        self.root, self.host = root, host
        network.ensure_network(root, "a")
        network.ensure_network(root, "b")
        network.ensure_network(root, "i", internal=True)
        self.ns: dict[str, str] = {}
        self.ip: dict[str, str] = {}
        for name in ("a1", "a2", "b1", "i1", "i2"):
            self.ns[name] = host.namespace(name)
            self.ip[name] = attachment.attach(root, name[0], name, self.ns[name], names=(name,)).ip
            host.tcp(self.ns[name], 80, says=name)
            host.udp(self.ns[name], 80, says=name)

    def publish(self, *names: str, port: int = 8080, protocol: str = "tcp", ip="0.0.0.0") -> None:
        backends = tuple((self.ip[name], 80) for name in names)
        publication = Publication(port, protocol, backends, ip)
        firewall.publish(self.root, f"shop/{names[0]}/{protocol}/{ip}", (publication,))


@pytest.fixture
def town(world: Path) -> Iterator[Town]:
    with test_host(world) as host:
        yield Town(Root.at(world), host)


def test_a_published_port_is_reached_from_everywhere(town: Town) -> None:
    town.publish("a1")
    gateway = network.get_network(town.root, "a").gateway

    assert ask_tcp(town.host.neighbour, HOST, 8080) == f"a1 {NEIGHBOUR}"
    assert ask_tcp(None, "127.0.0.1", 8080).startswith("a1 ")
    assert ask_tcp(None, HOST, 8080).startswith("a1 ")
    assert ask_tcp(town.ns["b1"], HOST, 8080).startswith("a1 ")
    assert ask_tcp(town.ns["a2"], HOST, 8080).startswith("a1 ")
    assert ask_tcp(town.ns["a2"], gateway, 8080).startswith("a1 ")
    assert ask_tcp(town.ns["a1"], HOST, 8080).startswith("a1 ")
    assert observe(town.root).deviations == ()


def test_a_published_udp_port_is_reached_from_everywhere(town: Town) -> None:
    town.publish("a1", protocol="udp")

    assert ask_udp(town.host.neighbour, HOST, 8080) == f"a1 {NEIGHBOUR}"
    assert ask_udp(None, "127.0.0.1", 8080).startswith("a1 ")
    assert ask_udp(None, HOST, 8080).startswith("a1 ")
    assert ask_udp(town.ns["b1"], HOST, 8080).startswith("a1 ")
    assert ask_udp(town.ns["a2"], HOST, 8080).startswith("a1 ")
    assert ask_udp(town.ns["a1"], HOST, 8080).startswith("a1 ")


@pytest.mark.parametrize("bridged_packets_filtered", ["0", "1"])
def test_hairpin_works_whether_or_not_bridged_packets_pass_the_ip_firewall(
    town: Town, bridged_packets_filtered: str
) -> None:
    if not Path("/proc/sys/net/bridge").exists():
        cannot("filter bridged packets: the kernel has no br_netfilter")
    run(f"sysctl -q -w net.bridge.bridge-nf-call-iptables={bridged_packets_filtered}")
    town.publish("a1")

    assert ask_tcp(town.ns["a1"], HOST, 8080).startswith("a1 ")
    assert ask_tcp(town.ns["a2"], HOST, 8080).startswith("a1 ")
    assert ask_tcp(town.ns["a2"], town.ip["a1"], 80) == f"a1 {town.ip['a2']}"


def test_requests_are_balanced_over_all_backends(town: Town) -> None:
    town.publish("a1", "a2", "b1")

    answers = {ask_tcp(town.host.neighbour, HOST, 8080).split()[0] for _ in range(9)}

    assert answers == {"a1", "a2", "b1"}


def test_networks_are_closed_to_each_other_and_to_neighbours(town: Town) -> None:
    inside(town.host.neighbour, lambda: run(f"ip route add 10.72.0.0/13 via {HOST}"))

    assert silent(ask_tcp, town.ns["a1"], town.ip["b1"], 80)
    assert silent(ask_tcp, town.ns["b1"], town.ip["a1"], 80)
    assert silent(ask_udp, town.ns["b1"], town.ip["a1"], 80)
    assert silent(ask_tcp, town.host.neighbour, town.ip["a1"], 80)
    assert ask_tcp(town.ns["a2"], town.ip["a1"], 80) == f"a1 {town.ip['a2']}"
    assert ask_tcp(None, town.ip["a1"], 80).startswith("a1 ")


def test_an_internal_network_reaches_nothing_but_itself(town: Town) -> None:
    town.publish("a1")
    town.host.tcp(town.host.neighbour, 80, says="neighbour")
    town.host.tcp(None, 81, says="host")
    gateway = network.get_network(town.root, "i").gateway
    # A container may set itself a route; that must not help it.
    inside(town.ns["i1"], lambda: run(f"ip route add default via {gateway}"))

    assert ask_tcp(town.ns["i2"], town.ip["i1"], 80) == f"i1 {town.ip['i2']}"
    assert ask_tcp(None, town.ip["i1"], 80).startswith("i1 ")
    assert silent(ask_tcp, town.ns["i1"], HOST, 8080)
    assert silent(ask_tcp, town.ns["i1"], NEIGHBOUR, 80)
    assert silent(ask_tcp, town.ns["i1"], town.ip["a1"], 80)
    assert silent(ask_tcp, town.ns["a1"], town.ip["i1"], 80)
    assert silent(ask_tcp, town.ns["i1"], gateway, 81)


def test_a_port_of_an_internal_network_cannot_be_published(town: Town) -> None:
    with pytest.raises(NetworkError, match="internal network i"):
        town.publish("i1")


def test_containers_reach_the_outside_with_the_address_of_the_host(town: Town) -> None:
    town.host.tcp(town.host.neighbour, 80, says="neighbour")

    assert ask_tcp(town.ns["a1"], NEIGHBOUR, 80) == f"neighbour {HOST}"


def test_a_port_published_on_localhost_stays_on_localhost(town: Town) -> None:
    town.publish("a1", ip="127.0.0.1")
    inside(town.host.neighbour, lambda: run(f"ip route add 127.0.0.1/32 via {HOST} table 99"))

    assert ask_tcp(None, "127.0.0.1", 8080).startswith("a1 ")
    assert silent(ask_tcp, None, HOST, 8080)
    assert silent(ask_tcp, town.host.neighbour, HOST, 8080)


def test_a_port_published_on_one_address_is_not_on_the_others(town: Town) -> None:
    town.publish("a1", ip=HOST)

    assert ask_tcp(town.host.neighbour, HOST, 8080) == f"a1 {NEIGHBOUR}"
    assert ask_tcp(None, HOST, 8080).startswith("a1 ")
    assert silent(ask_tcp, None, "127.0.0.1", 8080)


def test_one_port_has_one_owner(town: Town) -> None:
    town.publish("a1")
    with pytest.raises(ConflictError, match="8080/tcp is published by shop/a1"):
        town.publish("b1")
    town.publish("b1", protocol="udp")


def test_unpublishing_closes_the_port(town: Town) -> None:
    town.publish("a1")
    assert ask_tcp(town.host.neighbour, HOST, 8080).startswith("a1")

    firewall.unpublish(town.root, "shop/a1/tcp/0.0.0.0")

    assert silent(ask_tcp, town.host.neighbour, HOST, 8080)
    assert observe(town.root).deviations == ()


def test_a_udp_client_follows_when_the_backend_changes(town: Town) -> None:
    owner = "shop/dns"
    firewall.publish(town.root, owner, (Publication(53, "udp", ((town.ip["a1"], 80),)),))
    assert ask_udp(town.host.neighbour, HOST, 53, source=4000).startswith("a1")

    firewall.publish(town.root, owner, (Publication(53, "udp", ((town.ip["b1"], 80),)),))

    assert ask_udp(town.host.neighbour, HOST, 53, source=4000).startswith("b1")


def test_a_udp_client_that_came_too_early_is_served_once_the_port_is_published(town: Town) -> None:
    # Leaves a tracked flow without a backend behind, renewed by each attempt.
    with pytest.raises(OSError, match=r"refused|timed out"):
        ask_udp(town.host.neighbour, HOST, 8080, source=4000)

    town.publish("a1", protocol="udp")

    assert ask_udp(town.host.neighbour, HOST, 8080, source=4000).startswith("a1")


def test_many_owners_change_in_one_step(town: Town) -> None:
    with firewall.commit(town.root) as change:
        for port in range(9000, 9050):
            change.publish(f"shop/p{port}", (Publication(port, "tcp", ((town.ip["a1"], 80),)),))

    assert ask_tcp(town.host.neighbour, HOST, 9049).startswith("a1")
    assert observe(town.root).deviations == ()


def test_nothing_changes_when_a_commit_raises(town: Town) -> None:
    target = ((town.ip["a1"], 80),)
    twice = (Publication(9000, "tcp", target), Publication(9000, "tcp", target))

    def publish_good_and_bad() -> None:
        with firewall.commit(town.root) as change:
            change.publish("shop/x", twice[:1])
            change.publish("shop/y", twice)

    with pytest.raises(ConflictError):
        publish_good_and_bad()

    assert firewall.publications(town.root) == {}
    assert silent(ask_tcp, town.host.neighbour, HOST, 9000)


def test_deleting_the_last_network_leaves_no_table_and_no_bridge(town: Town) -> None:
    for name in town.ns:
        attachment.release(town.root, name)
    for name in "abi":
        network.delete_network(town.root, name)

    assert town.root.nft_table not in run("nft list tables")
    assert f"{town.root.link_prefix}n" not in run("ip -o link")
