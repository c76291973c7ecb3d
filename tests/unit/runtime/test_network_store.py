import os
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.errors import DamagedError, NetworkError, NotFoundError
from runtime.network import store
from runtime.network.files import read_json, write_json
from runtime.network.model import Lease, Network, Record
from runtime.root import Root

NETWORK = Network("shop.default", 3, "bpn3", "10.9.0.0/24", "10.9.0.1", internal=False, mtu=1400)
LEASE = Lease("c1", "10.9.0.2", "eth0", "bpv1", ("web", "web.shop"), "/run/c1", ("192.0.2.1",))


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    root = Root.at(tmp_path)
    record = Record(NETWORK, (LEASE,), "10.9.0.2")

    store.save(root, record, durable=True)
    store._read_before.clear()

    assert store.load(root, "shop.default") == record
    assert store.load_all(root) == (record,)


def test_a_record_changed_by_another_process_is_read_again(tmp_path: Path) -> None:
    root = Root.at(tmp_path)
    store.save(root, Record(NETWORK, (LEASE,)))
    path = root.state / "networks" / "by-id" / "shop.default.json"
    body = read_json(path)
    body["leases"] = []
    write_json(path, body)

    assert store.load(root, "shop.default") == Record(NETWORK)


def test_a_missing_network_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no network shop"):
        store.load(Root.at(tmp_path), "shop")
    assert store.load_all(Root.at(tmp_path)) == ()
    store.remove(Root.at(tmp_path), "shop")


@pytest.mark.parametrize("wrong", ["", "..", "../x", "a/b", "A", ".hidden", "x" * 300])
def test_an_id_that_is_no_file_name_is_refused(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(NetworkError, match="is not a network id"):
        store.load(Root.at(tmp_path), wrong)


def test_a_record_of_a_later_version_is_not_misread(tmp_path: Path) -> None:
    root = Root.at(tmp_path)
    store.save(root, Record(NETWORK))
    write_json(root.state / "networks" / "by-id" / "later.json", {"version": 2})
    with pytest.raises(NetworkError, match="version 2, not 1"):
        store.load(root, "later")


def test_numbers_are_never_given_twice(tmp_path: Path) -> None:
    root = Root.at(tmp_path)
    assert [store.next_number(root, "link") for _ in range(12)] == list(range(1, 13))
    assert store.next_number(root, "network") == 1


@pytest.mark.parametrize("left", [b"", b"\0" * 21, b"%020d\n" % 1])
def test_a_counter_lost_with_the_power_gives_no_number_twice(tmp_path: Path, left: bytes) -> None:
    root = Root.at(tmp_path)
    network = replace(NETWORK, number=3)
    lease = replace(LEASE, link=f"{root.link_prefix}v1f")
    store.save(root, Record(network, (lease, replace(lease, container="c2", link=""))))
    for counter in ("network", "link"):
        (root.state / "networks" / f"{counter}.number").write_bytes(left)
    assert store.next_number(root, "network") == 4
    assert store.next_number(root, "link") == 0x20


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    root = Root.at(tmp_path)
    store.save(root, Record(NETWORK))
    path = root.state / "networks" / "by-id" / "shop.default.json"
    path.write_bytes(b"")
    with pytest.raises(DamagedError, match=rf"{path} is damaged \(empty\)"):
        store.load_all(root)


def test_a_write_that_fails_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f.json"
    write_json(path, {"old": True})

    def full(fd: int, data: bytes) -> int:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="no space"):
        write_json(path, {"new": "and longer"})

    assert read_json(path) == {"old": True}
