"""What somebody breaks by hand is named, one line per cause, and mended; the rest is left alone."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.network import attachment, firewall, netns, network, observe
from runtime.network.firewall import Publication
from runtime.root import Root
from tests.support.testhost import (
    HOST,
    TestHost,
    ask_tcp,
    inside,
    nft,
    run,
    test_host,
)

pytestmark = pytest.mark.kernel


class Shop:
    """One network, two containers, a published port; everything in order."""

    def __init__(self, root: Root, host: TestHost) -> None:
        self.root, self.host = root, host
        self.network = network.ensure_network(root, "shop")
        self.bridge = self.network.bridge
        self.table = root.nft_table
        self.ns = {name: host.namespace(name) for name in ("c1", "c2")}
        self.at = {
            name: attachment.attach(root, "shop", name, path, names=(name,))
            for name, path in self.ns.items()
        }
        for name, path in self.ns.items():
            host.tcp(path, 80, says=name)
        publication = Publication(8080, "tcp", ((self.at["c1"].ip, 80),))
        firewall.publish(root, "shop/web", (publication,))
        assert observe.observe(root, inside=True).deviations == ()

    def works(self) -> bool:
        return (
            ask_tcp(self.host.neighbour, HOST, 8080).startswith("c1")
            and ask_tcp(None, "127.0.0.1", 8080).startswith("c1")
            and ask_tcp(self.ns["c2"], self.at["c1"].ip, 80).startswith("c1")
        )

    def handle(self, chain: str, word: str) -> str:
        rules = run(f"nft -a list chain inet {self.table} {chain}").splitlines()
        return next(line.split()[-1] for line in rules if word in line)


@pytest.fixture
def shop(world: Path) -> Iterator[Shop]:
    with test_host(world) as host:
        yield Shop(Root.at(world), host)


def _delete_rule(shop: Shop, chain: str, word: str) -> None:
    nft(f"delete rule inet {shop.table} {chain} handle {shop.handle(chain, word)}")


BREAKAGES: dict[str, tuple[Callable[[Shop], object], str, str]] = {
    "veth removed": (
        lambda shop: run(f"ip link del {shop.at['c1'].host_link}"),
        "link-gone",
        "link LINK of container c1 is gone (veth removed)",
    ),
    "veth down": (
        lambda shop: run(f"ip link set {shop.at['c1'].host_link} down"),
        "link-down",
        "link LINK of container c1 is down",
    ),
    "veth taken out of the bridge": (
        lambda shop: run(f"ip link set {shop.at['c1'].host_link} nomaster"),
        "link-detached",
        "link LINK of container c1 is not in bridge BRIDGE",
    ),
    "interface down inside": (
        lambda shop: inside(shop.ns["c1"], lambda: run("ip link set eth0 down")),
        "inside-down",
        "link eth0 inside container c1 is down",
    ),
    "address removed inside": (
        lambda shop: inside(shop.ns["c1"], lambda: run("ip addr flush dev eth0")),
        "address-missing",
        "address IP/24 is missing on eth0 inside container c1",
    ),
    "route removed inside": (
        lambda shop: inside(shop.ns["c1"], lambda: run("ip route del default")),
        "route-missing",
        "default route via GATEWAY is missing inside container c1",
    ),
    "address added inside": (
        lambda shop: inside(shop.ns["c1"], lambda: run("ip addr add 10.1.2.3/24 dev eth0")),
        "address-extra",
        "address 10.1.2.3/24 was added to eth0 inside container c1",
    ),
    "loopback down inside": (
        lambda shop: inside(shop.ns["c1"], lambda: run("ip link set lo down")),
        "lo-down",
        "link lo inside container c1 is down",
    ),
    "bridge deleted": (
        lambda shop: run(f"ip link del {shop.bridge}"),
        "bridge-gone",
        "bridge BRIDGE of network shop is gone",
    ),
    "bridge down": (
        lambda shop: run(f"ip link set {shop.bridge} down"),
        "bridge-down",
        "bridge BRIDGE of network shop is down",
    ),
    "address of the bridge removed": (
        lambda shop: run(f"ip addr flush dev {shop.bridge}"),
        "bridge-address",
        "bridge BRIDGE of network shop lacks its address GATEWAY/24",
    ),
    "sysctl of the bridge": (
        lambda shop: run(f"sysctl -q -w net.ipv4.conf.{shop.bridge}.route_localnet=0"),
        "bridge-sysctl",
        "sysctl net.ipv4.conf.BRIDGE.route_localnet is 0 instead of 1",
    ),
    "table deleted": (
        lambda shop: nft(f"delete table inet {shop.table}"),
        "table-gone",
        "nft table TABLE is gone (deleted)",
    ),
    "whole ruleset flushed": (
        lambda shop: nft("flush ruleset"),
        "table-gone",
        "nft table TABLE is gone (deleted)",
    ),
    "table flushed": (
        lambda shop: nft(f"flush table inet {shop.table}"),
        "table-flushed",
        "nft table TABLE is flushed (all rules removed)",
    ),
    "table put to sleep": (
        lambda shop: nft(f"add table inet {shop.table} {{ flags dormant; }}"),
        "table-changed",
        "nft table TABLE has flags set (dormant: asleep)",
    ),
    "rule removed": (
        lambda shop: _delete_rule(shop, "postrouting", "outside"),
        "rule-removed",
        "rule removed from chain postrouting: containers reach the outside",
    ),
    "rule of a publication removed": (
        lambda shop: nft(f"flush chain inet {shop.table} pub/shop/web/tcp/8080"),
        "rule-removed",
        "rule removed from chain pub/shop/web/tcp/8080: shop/web",
    ),
    "map element removed": (
        lambda shop: nft(f"delete element inet {shop.table} published {{ tcp . 8080 }}"),
        "element-removed",
        "element tcp . 8080 removed from map published",
    ),
    "set element removed": (
        lambda shop: nft(f"delete element inet {shop.table} bridges {{ {shop.bridge} }}"),
        "element-removed",
        "element BRIDGE removed from set bridges",
    ),
    "rule added": (
        lambda shop: nft(f"insert rule inet {shop.table} forward drop"),
        "rule-added",
        'rule added to chain forward: [{"drop": null}]',
    ),
    "zone file removed": (
        lambda shop: (shop.root.run / "dns" / f"{shop.network.gateway}.json").unlink(),
        "zone",
        "zone file of network shop is missing or changed",
    ),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_one_cause_is_named_and_mended(shop: Shop, breakage: str) -> None:
    do, code, text = BREAKAGES[breakage]
    others = _state_of_c2(shop)
    do(shop)

    found = observe.observe(shop.root, inside=True).deviations
    for word, meant in {
        "LINK": shop.at["c1"].host_link,
        "BRIDGE": shop.bridge,
        "IP": shop.at["c1"].ip,
        "GATEWAY": shop.network.gateway,
        "TABLE": shop.table,
    }.items():
        text = text.replace(word, meant)
    assert [(d.code, d.text) for d in found] == [(code, text)]

    assert observe.repair(shop.root, inside=True) == ()
    assert observe.observe(shop.root, inside=True).deviations == ()
    assert shop.works()
    assert _state_of_c2(shop) == others


def _state_of_c2(shop: Shop) -> str:
    return inside(shop.ns["c2"], lambda: run("ip -o addr show") + run("ip route"))


def test_forwarding_switched_off_is_named_and_mended(shop: Shop) -> None:
    run("sysctl -q -w net.ipv4.ip_forward=0")

    (found,) = observe.observe(shop.root).deviations

    assert found.text == "sysctl net.ipv4.ip_forward is 0 instead of 1"
    assert observe.repair(shop.root) == ()
    assert shop.works()


def test_a_deleted_bridge_names_what_is_lost_with_it(shop: Shop) -> None:
    run(f"ip link del {shop.bridge}")

    (found,) = observe.observe(shop.root).deviations

    assert found.network == "shop"
    assert found.containers == ("c1", "c2")
    assert found.owners == ("shop/web",)
    assert found.consequences == (
        "container c1 is cut off from shop",
        "container c2 is cut off from shop",
        "port 8080/tcp of shop/web lost 1 of 1 backends",
    )


def test_a_removed_map_element_names_the_port_that_closed(shop: Shop) -> None:
    nft(f"delete element inet {shop.table} published {{ tcp . 8080 }}")

    (found,) = observe.observe(shop.root).deviations

    assert found.owner == "shop/web"
    assert found.consequences == ("port 8080/tcp of shop/web is closed",)


def test_a_namespace_that_is_gone_is_left_to_the_container_engine(shop: Shop) -> None:
    netns.delete(shop.ns["c1"])

    (left,) = observe.repair(shop.root)

    assert (left.code, left.container) == ("netns-gone", "c1")
    assert left.text == "network namespace of container c1 is gone"


def test_only_the_containers_asked_for_are_mended(shop: Shop) -> None:
    for name in ("c1", "c2"):
        run(f"ip link set {shop.at[name].host_link} down")

    left = observe.repair(shop.root, containers=("c1",))

    assert [(d.code, d.container) for d in left] == [("link-down", "c2")]


def test_tables_of_others_are_never_touched(shop: Shop) -> None:
    nft("table inet theirs { chain c { type filter hook input priority 5; counter; }; }")
    before = run("nft -a list table inet theirs")

    nft(f"delete table inet {shop.table}")
    assert observe.repair(shop.root) == ()

    assert run("nft -a list table inet theirs") == before


def test_an_unchanged_ruleset_is_not_listed_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(table: str) -> None:
        raise AssertionError(f"listed {table}")

    monkeypatch.setattr("runtime.network.nft.list_table", refuse)
    assert observe.observe(shop.root).deviations == ()

    nft("add table inet theirs")
    with pytest.raises(AssertionError, match="listed"):
        observe.observe(shop.root)


def test_a_crash_between_record_and_kernel_is_a_deviation(shop: Shop) -> None:
    publication = Publication(9090, "tcp", ((shop.at["c2"].ip, 80),))
    kernel = run(f"nft list table inet {shop.table}")
    firewall.publish(shop.root, "shop/new", (publication,))
    nft(f"delete table inet {shop.table}\n{kernel}")

    found = observe.observe(shop.root).deviations
    assert {d.owner for d in found} == {"shop/new"}

    assert observe.repair(shop.root) == ()
    assert ask_tcp(shop.host.neighbour, HOST, 9090).startswith("c2")


def test_a_commit_that_was_killed_is_finished(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(script: str) -> None:
        os._exit(9)

    committer = os.fork()
    if committer == 0:
        try:
            monkeypatch.setattr("runtime.network.nft.load", die)
            firewall.unpublish(shop.root, "shop/web")
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(committer, 0)[1]) == 9
    assert observe.observe(shop.root).deviations != ()

    firewall.finish(shop.root)
    assert observe.observe(shop.root).deviations == ()
    monkeypatch.delattr("runtime.network.nft.load")
    firewall.finish(shop.root)  # there is nothing left to finish


def test_a_table_left_over_without_any_network_is_named_and_removed(world: Path) -> None:
    root = Root.at(world)
    with test_host(world):
        network.ensure_network(root, "a")
        table = run(f"nft list table inet {root.nft_table}")
        network.delete_network(root, "a")
        assert observe.observe(root).deviations == ()
        nft(table)

        (found,) = observe.observe(root).deviations
        assert found.text == f"nft table {root.nft_table} is there without any network"
        assert observe.repair(root) == ()
        assert root.nft_table not in run("nft list tables")


def test_observing_a_fresh_host_writes_nothing(world: Path) -> None:
    with test_host(world):
        before = sorted(world.rglob("*"))
        assert observe.observe(Root.at(world)).deviations == ()
        assert sorted(world.rglob("*")) == before
