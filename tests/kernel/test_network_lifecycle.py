"""Networks and leases over their life: made, asked for again, given back, crashed, raced for."""

import multiprocessing
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.errors import ConflictError, NetworkError, NotFoundError, StateError
from runtime.network import attachment, firewall, netns, network, observe, store, sysctl
from runtime.network.model import Attachment
from runtime.root import Root
from tests.support.testhost import HOST, TestHost, ask_tcp, inside, nft, run, test_host

pytestmark = pytest.mark.kernel


class Stage:
    def __init__(self, root: Root, host: TestHost) -> None:
        self.root, self.host = root, host

    def join(self, name: str, net: str = "a", **options: object) -> Attachment:
        return attachment.attach(self.root, net, name, self.host.namespace(name), **options)

    def links(self) -> set[str]:
        return {n for _, n in socket.if_nameindex() if n.startswith(self.root.link_prefix)}


@pytest.fixture
def stage(world: Path) -> Iterator[Stage]:
    with test_host(world) as host:
        yield Stage(Root.at(world), host)


def test_a_network_takes_a_free_subnet_and_the_mtu_of_the_way_out(stage: Stage) -> None:
    run("ip link add other type bridge")
    run("ip addr add 10.72.0.0/14 dev other")
    run("ip link set other up")

    made = network.ensure_network(stage.root, "a")

    assert made.mtu == 1400
    assert made.subnet.split(".")[:2] not in (["10", "72"], ["10", "73"], ["10", "74"])
    assert f"inet {made.gateway}/24" in run(f"ip addr show {made.bridge}")
    assert network.ensure_network(stage.root, "a") == made
    assert network.ensure_network(stage.root, "b").subnet != made.subnet


def test_a_subnet_in_use_is_refused_and_nothing_is_left(stage: Stage) -> None:
    with pytest.raises(ConflictError, match=r"198\.51\.100\.0/24 overlaps .* a route of this"):
        network.ensure_network(stage.root, "a", subnet="198.51.100.0/24")

    assert network.networks(stage.root) == ()
    assert stage.links() == set()


def test_another_subnet_is_a_replacement_not_a_change(stage: Stage) -> None:
    network.ensure_network(stage.root, "a", subnet="10.99.0.0/24", gateway="10.99.0.254")
    with pytest.raises(ConflictError, match=r"has subnet 10\.99\.0\.0/24, not 10\.98"):
        network.ensure_network(stage.root, "a", subnet="10.98.0.0/24")
    with pytest.raises(ConflictError, match="has gateway"):
        network.ensure_network(stage.root, "a", gateway="10.99.0.1")
    with pytest.raises(ConflictError, match="network a is not internal"):
        network.ensure_network(stage.root, "a", internal=True)


def test_an_mtu_changes_live(stage: Stage) -> None:
    network.ensure_network(stage.root, "a", mtu=1300)
    network.ensure_network(stage.root, "b")
    for name, net in (("c1", "a"), ("c2", "b")):
        stage.join(name, net)
    ns = stage.host.namespace("c1")
    stage.host.tcp(stage.host.neighbour, 80, says="neighbour")
    assert "mtu 1300" in inside(ns, lambda: run("ip link show eth0"))

    network.ensure_network(stage.root, "a", mtu=1200)

    assert "mtu 1200" in inside(ns, lambda: run("ip link show eth0"))
    assert ask_tcp(ns, "198.51.100.1", 80) == f"neighbour {HOST}"
    assert observe.observe(stage.root).deviations == ()


def test_attaching_again_changes_nothing(stage: Stage) -> None:
    network.ensure_network(stage.root, "a")
    first = stage.join("c1", names=("web",))
    before = settings_of_links(), stage.links()

    assert stage.join("c1", names=("web",)) == first
    assert (settings_of_links(), stage.links()) == before


def settings_of_links() -> str:
    """Return what was set of the links; the kernel updates flags and state when it has time."""
    return re.sub(r"<\S*>|state \S+", "", run("ip -o link"))


def test_a_container_inside_has_what_it_needs_and_no_ipv6(stage: Stage) -> None:
    made = network.ensure_network(stage.root, "a")
    attachment = stage.join("c1")
    ns = stage.host.namespace("c1")

    assert f"inet {attachment.ip}/24" in inside(ns, lambda: run("ip addr show eth0"))
    assert inside(ns, lambda: run("ip route show default")) == (
        f"default via {made.gateway} dev eth0 proto static \n"
    )
    assert inside(ns, lambda: run("ip -6 addr")) == ""
    assert f"lladdr {made.mac} PERMANENT" in inside(ns, lambda: run("ip neigh"))
    assert run(f"ip -6 addr show {attachment.host_link}") == ""
    assert run(f"ip -6 addr show {made.bridge}") == ""


def test_two_networks_are_two_interfaces_and_the_first_leads_out(stage: Stage) -> None:
    a = network.ensure_network(stage.root, "a")
    network.ensure_network(stage.root, "b")
    stage.join("c1", "b", interface="eth1")
    stage.join("c1", "a", interface="eth0")
    ns = stage.host.namespace("c1")

    assert [x.interface for x in attachment.attachments(stage.root, "c1")] == ["eth0", "eth1"]
    assert f"via {a.gateway} " in inside(ns, lambda: run("ip route get 198.51.100.1"))

    attachment.detach(stage.root, "a", "c1")
    assert "dev eth1" in inside(ns, lambda: run("ip route get 198.51.100.1"))
    assert observe.observe(stage.root, inside=True).deviations == ()
    assert inside(ns, lambda: sysctl.read("net.ipv4.ip_forward")) == "0"


def test_a_container_keeps_its_address_over_stop_and_start(stage: Stage) -> None:
    network.ensure_network(stage.root, "a")
    first = stage.join("c1")
    stage.join("c2")

    attachment.park(stage.root, "c1")
    netns.delete(stage.host.namespace("c1"))
    assert observe.observe(stage.root).deviations == ()
    again = stage.join("c1")

    assert again.ip == first.ip
    assert again.host_link != first.host_link
    assert observe.observe(stage.root).deviations == ()


def test_an_address_asked_for_is_given_or_its_holder_named(stage: Stage) -> None:
    network.ensure_network(stage.root, "a", subnet="10.99.0.0/24")
    assert stage.join("c1", ip="10.99.0.77").ip == "10.99.0.77"
    with pytest.raises(ConflictError, match=r"10\.99\.0\.77 is held by container c1"):
        stage.join("c2", ip="10.99.0.77")
    with pytest.raises(ConflictError, match=r"c1 holds 10\.99\.0\.77 .* not 10\.99\.0\.78"):
        stage.join("c1", ip="10.99.0.78")
    assert [lease.container for _, lease in attachment.leases(stage.root)] == ["c1"]


def test_an_address_not_in_use_is_passed_on_to_one_that_asks_for_it(stage: Stage) -> None:
    network.ensure_network(stage.root, "a", subnet="10.99.0.0/24")
    address = stage.join("c1", ip="10.99.0.77").ip
    attachment.pass_on(stage.root, "a", address, former="c1", heir="c2")
    assert [lease.container for _, lease in attachment.leases(stage.root)] == ["c1"]

    attachment.park(stage.root, "c1")
    netns.delete(stage.host.namespace("c1"))
    attachment.pass_on(stage.root, "a", "10.99.0.78", former="c1", heir="c2")
    assert [lease.container for _, lease in attachment.leases(stage.root)] == ["c1"]
    for _ in range(2):
        attachment.pass_on(stage.root, "a", address, former="c1", heir="c2")
    assert [lease.container for _, lease in attachment.leases(stage.root)] == ["c2"]
    assert observe.observe(stage.root).deviations == ()
    assert stage.join("c2", ip="10.99.0.77").ip == address
    assert observe.observe(stage.root, inside=True).deviations == ()


def test_a_network_in_use_is_not_deleted_and_says_by_whom(stage: Stage) -> None:
    network.ensure_network(stage.root, "a")
    stage.join("c2")
    stage.join("c1")
    with pytest.raises(StateError, match="cannot delete network a: used by c1, c2"):
        network.delete_network(stage.root, "a")

    for name in ("c1", "c2"):
        attachment.release(stage.root, name)
        attachment.release(stage.root, name)
    network.delete_network(stage.root, "a")
    network.delete_network(stage.root, "a")
    with pytest.raises(NotFoundError, match="no network a"):
        network.get_network(stage.root, "a")


def test_attaching_to_what_is_gone_says_what_is_gone(stage: Stage) -> None:
    with pytest.raises(NotFoundError, match="no network a"):
        stage.join("c1")
    made = network.ensure_network(stage.root, "a")
    with pytest.raises(NetworkError, match="no network namespace is pinned at /nowhere"):
        attachment.attach(stage.root, "a", "c1", "/nowhere")
    run(f"ip link del {made.bridge}")
    with pytest.raises(NetworkError, match=f"bridge {made.bridge} of network a is gone"):
        stage.join("c2")


def test_host_settings_changed_are_in_the_ledger(stage: Stage) -> None:
    assert sysctl.read("net.ipv4.ip_forward") == "0"

    network.ensure_network(stage.root, "a")

    assert sysctl.read("net.ipv4.ip_forward") == "1"
    assert sysctl.changed(stage.root) == {"net.ipv4.ip_forward": {"former": "0", "value": "1"}}
    assert sysctl.read("net.ipv4.conf.eth0.route_localnet") == "0"


def test_a_setting_that_is_right_already_is_not_ours(stage: Stage) -> None:
    run("sysctl -q -w net.ipv4.ip_forward=1")
    network.ensure_network(stage.root, "a")
    assert sysctl.changed(stage.root) == {}


def test_everything_comes_back_after_a_reboot(stage: Stage) -> None:
    made = network.ensure_network(stage.root, "a")
    first = stage.join("c1", names=("web",))
    attachment.park(stage.root, "c1")
    # All that a reboot takes: links, table, sysctls, namespaces; the state folder stays.
    run(f"ip link del {made.bridge}")
    nft("flush ruleset")
    netns.delete(stage.host.namespace("c1"))

    assert network.ensure_network(stage.root, "a") == made
    assert stage.join("c1", names=("web",)).ip == first.ip
    assert observe.repair(stage.root) == ()
    assert observe.observe(stage.root, inside=True).deviations == ()


def test_two_worlds_on_one_host_do_not_see_each_other(stage: Stage, tmp_path: Path) -> None:
    other = Root.at(tmp_path)
    one = network.ensure_network(stage.root, "a")
    two = network.ensure_network(other, "a")
    assert one.subnet != two.subnet
    assert one.bridge != two.bridge

    network.delete_network(other, "a")

    assert observe.observe(stage.root).deviations == ()
    assert other.nft_table not in run("nft list tables")


def _attach_many(folder: str, start: int, count: int) -> None:
    root = Root.at(folder)
    for number in range(start, start + count):
        path = f"{folder}/run/netns/p{number}"
        netns.create(path)
        attachment.attach(root, "a", f"p{number}", path, names=("web",))


def test_processes_that_attach_at_once_get_different_addresses(stage: Stage, world: Path) -> None:
    network.ensure_network(stage.root, "a")
    fork = multiprocessing.get_context("fork")
    workers = [
        fork.Process(target=_attach_many, args=(str(world), start, 8)) for start in (0, 8, 16)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for number in range(24):
        stage.host.stack.callback(netns.delete, str(world / "run" / "netns" / f"p{number}"))

    held = [lease for _, lease in attachment.leases(stage.root)]
    assert len({lease.ip for lease in held}) == 24
    assert len({lease.link for lease in held}) == 24
    assert observe.observe(stage.root, inside=True).deviations == ()


def _attach_and_die(folder: str, number: int, calls: int) -> None:
    """Attach, and be killed by oneself at the *calls*-th netlink or file step."""
    left = calls

    def step(*_: object) -> bool:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    import sys

    watched = {"request", "save", "write_json", "open_netlink", "mount", "_write"}

    def trace(frame: object, event: str, arg: object) -> None:
        code = frame.f_code  # type: ignore[attr-defined]
        if code.co_name in watched and event in ("call", "return"):
            step()

    sys.setprofile(trace)
    path = f"{folder}/run/netns/k{number}"
    netns.create(path)
    attachment.attach(Root.at(folder), "a", f"k{number}", path, names=("web",))
    os._exit(0)


def test_killed_at_any_step_and_done_again_all_is_well(stage: Stage, world: Path) -> None:
    network.ensure_network(stage.root, "a")
    fork = multiprocessing.get_context("fork")
    killed = 0
    for calls in range(1, 40):
        worker = fork.Process(target=_attach_and_die, args=(str(world), calls, calls))
        worker.start()
        worker.join()
        path = str(world / "run" / "netns" / f"k{calls}")
        stage.host.stack.callback(netns.delete, path)
        if worker.exitcode == 0:
            break
        killed += 1
        netns.create(path)
        attachment.attach(stage.root, "a", f"k{calls}", path, names=("web",))
        assert observe.observe(stage.root, inside=True).deviations == ()
    assert killed > 8

    store._read_before.clear()
    held = [lease for _, lease in attachment.leases(stage.root)]
    assert len({lease.ip for lease in held}) == len(held)
    ours = {n for n in stage.links() if n.startswith(f"{stage.root.link_prefix}v")}
    assert ours == {lease.link for lease in held}


def test_a_lost_owner_is_found_by_the_list_of_leases(stage: Stage) -> None:
    network.ensure_network(stage.root, "a")
    stage.join("lost")
    netns.delete(stage.host.namespace("lost"))

    assert [(net, lease.container) for net, lease in attachment.leases(stage.root)] == [
        ("a", "lost")
    ]
    attachment.release(stage.root, "lost")

    assert attachment.leases(stage.root) == ()
    assert firewall.publications(stage.root) == {}
    assert observe.observe(stage.root).deviations == ()
