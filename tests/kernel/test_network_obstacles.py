"""Other people's chains that drop our traffic: named, with the way to allow it, which works."""

import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.network import attachment, firewall, network
from runtime.network.firewall import Publication
from runtime.network.obstacles import Obstacle, foreign_obstacles
from runtime.root import Root
from tests.support.testhost import (
    HOST,
    NEIGHBOUR,
    TestHost,
    ask_tcp,
    nft,
    silent,
    test_host,
)

pytestmark = pytest.mark.kernel


class Stage:
    def __init__(self, root: Root, host: TestHost) -> None:
        self.root, self.host = root, host
        self.network = network.ensure_network(root, "a")
        self.ns = host.namespace("c1")
        ip = attachment.attach(root, "a", "c1", self.ns).ip
        host.tcp(self.ns, 80, says="c1")
        host.tcp(host.neighbour, 80, says="neighbour")
        firewall.publish(root, "shop/web", (Publication(8080, "tcp", ((ip, 80),)),))

    def obstacles(self) -> tuple[Obstacle, ...]:
        return foreign_obstacles(self.root)

    def works(self) -> bool:
        return not silent(ask_tcp, self.host.neighbour, HOST, 8080) and not silent(
            ask_tcp, self.ns, NEIGHBOUR, 80
        )


@pytest.fixture
def stage(world: Path) -> Iterator[Stage]:
    with test_host(world) as host:
        yield Stage(Root.at(world), host)


def _follow(obstacle: Obstacle) -> None:
    for command in obstacle.how_to_allow:
        words = shlex.split(command)
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"


def test_a_free_host_has_none(stage: Stage) -> None:
    assert stage.obstacles() == ()
    assert stage.works()


def test_a_policy_of_drop_is_named_and_its_advice_works(stage: Stage) -> None:
    nft("table inet strict { chain fw { type filter hook forward priority 0; policy drop; }; }")
    assert not stage.works()

    found = stage.obstacles()

    assert {(o.table, o.chain, o.why) for o in found} == {
        ("inet strict", "fw", "policy of chain fw is drop")
    }
    assert {"containers to the outside", "outside to published ports"} <= {o.traffic for o in found}
    assert all(o.certain for o in found)

    # Answers must pass too: that is what every such chain has.
    nft("insert rule inet strict fw ct state established,related accept")
    _follow(found[0])
    assert stage.obstacles() == ()
    assert stage.works()


def test_a_rule_that_drops_in_a_chain_jumped_to_is_named(stage: Stage) -> None:
    nft(
        "table ip guard { chain inner { ip saddr 10.0.0.0/8 drop; }; "
        "chain outer { type filter hook forward priority -5; policy accept; "
        'iifname "bp*" jump inner; }; }'
    )

    (found,) = [o for o in stage.obstacles() if o.traffic == "containers to the outside"]

    assert (found.table, found.chain, found.why) == (
        "ip guard",
        "outer",
        "rule of chain inner: drop",
    )


def test_a_chain_that_allows_us_before_it_drops_is_none(stage: Stage) -> None:
    nft(
        "table inet strict { set ours { type ifname; elements = { "
        f'"{stage.network.bridge}" }}; }}; '
        "chain fw { type filter hook forward priority 0; policy drop; "
        "iifname @ours accept; oifname @ours accept; }; }"
    )

    assert stage.obstacles() == ()
    assert stage.works()


def test_a_chain_that_drops_only_others_is_none(stage: Stage) -> None:
    nft(
        "table inet strict { chain fw { type filter hook forward priority 0; "
        'iifname "docker0" drop; ct state invalid drop; ip daddr 192.0.2.7 drop; }; }'
    )

    assert stage.obstacles() == ()
    assert stage.works()


def test_an_input_chain_that_stops_names_is_named(stage: Stage) -> None:
    nft(
        "table inet strict { chain in { type filter hook input priority 0; policy drop; "
        "tcp dport 22 accept; }; }"
    )

    (found,) = stage.obstacles()

    assert found.traffic == "containers asking for names"
    _follow(found)
    assert stage.obstacles() == ()


def test_a_condition_that_cannot_be_judged_makes_it_uncertain(stage: Stage) -> None:
    nft(
        "table inet strict { chain fw { type filter hook forward priority 0; policy drop; "
        "meta mark 0x7 accept; }; }"
    )

    assert stage.obstacles()
    assert not any(o.certain for o in stage.obstacles())


def test_docker_like_chains_are_named_with_the_place_docker_keeps_for_others(
    stage: Stage,
) -> None:
    nft(
        "table ip filter { chain DOCKER-USER { }; chain FORWARD { "
        "type filter hook forward priority 0; policy drop; jump DOCKER-USER; }; }"
    )

    found = stage.obstacles()

    assert {o.table for o in found} == {"ip filter"}
    place = f"iptables -I DOCKER-USER -i {stage.root.link_prefix}n+ -j ACCEPT"
    assert all(place in o.how_to_allow for o in found)


def test_it_can_be_asked_before_the_first_network(world: Path) -> None:
    with test_host(world):
        nft("table inet s { chain fw { type filter hook forward priority 0; policy drop; }; }")
        assert {o.chain for o in foreign_obstacles(Root.at(world))} == {"fw"}
        assert list(world.glob("lib/*")) == []


def test_an_unchanged_ruleset_is_not_read_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    nft("table inet strict { chain fw { type filter hook forward priority 0; policy drop; }; }")
    found = stage.obstacles()
    assert found

    def refuse() -> None:
        raise AssertionError("listed")

    monkeypatch.setattr("runtime.network.nft.tables", refuse)
    assert stage.obstacles() == found

    nft("delete table inet strict")
    with pytest.raises(AssertionError, match="listed"):
        stage.obstacles()
