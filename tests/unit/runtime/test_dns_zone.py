import functools
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.network import dns, dnswire, store
from runtime.network.dnszone import Zones
from runtime.network.model import Attachment, Lease, Network, Record
from runtime.root import Root
from tests.support.dnsclient import question

A = Network("a", 1, "bpn1", "10.9.0.0/24", "10.9.0.1", internal=False, mtu=1500)
B = Network("b", 2, "bpn2", "10.9.1.0/24", "10.9.1.1", internal=True, mtu=1500)


def _lease(container: str, ip: str, *names: str) -> Lease:
    return Lease(container, ip, "eth0", "bpv1", names, f"/run/{container}")


RECORDS = (
    Record(A, (_lease("c1", "10.9.0.2", "Web"), _lease("c2", "10.9.0.3", "web", "web.shop"))),
    Record(
        B, (_lease("c2", "10.9.1.2", "c2"), replace(_lease("off", "10.9.1.3", "off"), netns=""))
    ),
)


def test_a_zone_holds_names_of_attached_containers_in_lower_case() -> None:
    zone = dns.zone(RECORDS[0], RECORDS)
    assert zone["names"] == {"web": ["10.9.0.2", "10.9.0.3"], "web.shop": ["10.9.0.3"]}
    assert zone["hosts"] == {"10.9.0.2": "web", "10.9.0.3": "web"}
    assert zone["clients"] == {"10.9.0.3": {"networks": ["10.9.1.1"], "servers": []}}
    assert "off" not in dns.zone(RECORDS[1], RECORDS)["names"]


@pytest.fixture
def zones(tmp_path: Path) -> Iterator[Zones]:
    root = Root.at(tmp_path)
    for record in RECORDS:
        store.save(root, record)
    dns.write_zones(root)
    folder = os.open(root.run / "dns", os.O_RDONLY)
    yield Zones(folder)
    os.close(folder)


def _ask(zones: Zones, gateway: str, client: str, name: str):
    return zones.answer(gateway, client, dnswire.parse_question(question(name)))


def test_who_is_not_of_the_network_is_told_nothing(zones: Zones) -> None:
    assert _ask(zones, "10.9.0.1", "10.9.1.2", "web") is None
    assert _ask(zones, "10.9.0.1", "192.0.2.1", "web") is None
    assert _ask(zones, "10.9.9.1", "10.9.0.2", "web") is None


def test_a_container_on_an_internal_and_an_ordinary_network_may_ask_outside(zones: Zones) -> None:
    assert _ask(zones, "10.9.1.1", "10.9.1.2", "example.org").forward == []
    assert _ask(zones, "10.9.1.1", "10.9.1.3", "example.org").rcode == dnswire.NXDOMAIN
    assert len(_ask(zones, "10.9.1.1", "10.9.1.2", "web").records) == 2


def test_zones_of_deleted_networks_go_and_changed_ones_are_stale(tmp_path: Path) -> None:
    root = Root.at(tmp_path)
    for record in RECORDS:
        store.save(root, record)
    assert len(dns.stale(root, RECORDS)) == 2
    dns.write_zones(root)
    assert dns.stale(root, RECORDS) == ()
    assert {p.name for p in (root.run / "dns").iterdir()} == {"10.9.0.1.json", "10.9.1.1.json"}

    store.remove(root, "b")
    dns.write_zones(root)
    assert {p.name for p in (root.run / "dns").iterdir()} == {"10.9.0.1.json"}


def test_resolv_conf_of_a_container(tmp_path: Path) -> None:
    host = tmp_path / "resolv.conf"
    host.write_text("# c\nnameserver 192.0.2.1\nsearch corp.example\noptions edns0\n")
    text = functools.partial(dns.resolv_conf, host_file=str(host))
    attached = [
        Attachment(n.id, "c", ip, 24, "m", "l", "eth0", n.gateway, n.internal)
        for n, ip in ((A, "10.9.0.2"), (B, "10.9.1.2"))
    ]

    assert text(attached) == (
        "nameserver 10.9.0.1\nnameserver 10.9.1.1\nsearch corp.example\noptions ndots:0\n"
    )
    assert text((), search=("x.example",)) == (
        "nameserver 192.0.2.1\nsearch x.example\noptions edns0\n"
    )
    assert text((), servers=("192.0.2.9",)).startswith("nameserver 192.0.2.9\n")
