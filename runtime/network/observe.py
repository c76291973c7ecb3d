"""Compare what the kernel has with what the records say should be there, and mend it.

Codes of deviations found here: ``sysctl bridge-gone bridge-wrong bridge-down bridge-address
netns-gone link-gone link-detached link-down inside-down address-missing zone firewall-stale``, and
the INSIDE ones; those of the nft table are in ``table``, that of a user's ports in ``hostports``.
"""

import os
import socket
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from runtime.errors import NetworkError, NotFoundError
from runtime.kernel.netlink import Netlink
from runtime.network import (
    attachment,
    dns,
    firewall,
    hostports,
    netns,
    plumbing,
    rtnetlink,
    store,
    sysctl,
    table,
)
from runtime.network.deviation import Deviation as Deviation
from runtime.network.hostlock import host_lock
from runtime.network.model import Lease, Network, Publication, Record
from runtime.network.rtnetlink import Link
from runtime.network.ruleset import Wanted, Zone
from runtime.record import dataclass
from runtime.root import Root

_LOOKS = 10
_COMMIT_S = 0.02
"""About what a change of the firewall takes."""

INSIDE = frozenset({"route-missing", "lo-down", "address-extra"})
"""Of deviations that a container with CAP_NET_ADMIN may well have made on purpose."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One reading."""

    records: tuple[Record, ...]
    publications: Mapping[str, tuple[Publication, ...]]
    links: Mapping[str, Link]
    """By name: our bridges, and the host ends of our veths."""
    deviations: tuple[Deviation, ...]


def observe(root: Root, *, inside: bool = False) -> Snapshot:
    """Read records and kernel; mends nothing, takes no lock.

    *inside* also looks for the INSIDE ones (about 40 us a container); the container's own link
    and address are looked at in any case.
    """
    records = store.load_all(root)
    target = firewall.wanted(root)
    if not records and target == Wanted():
        return Snapshot((), {}, {}, table.check(root, target))
    with Netlink() as netlink:
        reading = _Reading(netlink, records, target)
        host = tuple(_host_settings(records))
        # Off for the host, it is off for each bridge: one cause, said once.
        reading.forwards = not host
        deviations = [
            *host,
            *(found for record in records for found in reading.of_network(record)),
        ]
        if inside:
            # A link that goes down takes its routes along: one cause, said once.
            cut = {container for deviation in deviations for container in deviation.containers}
            deviations += reading.inside(records, cut)
    deviations += _firewall(root, records, target)
    deviations += _zones(root, records)
    return Snapshot(records, target.publications, reading.links, tuple(deviations))


def repair(
    root: Root,
    *,
    networks: Collection[str] | None = None,
    containers: Collection[str] | None = None,
    inside: bool = False,
) -> tuple[Deviation, ...]:
    """Mend what deviates and return what is left afterwards; None means all.

    Only deviations of these networks and these containers are mended; those of host and firewall
    always are. Containers that are fine are not touched. A container whose namespace is gone
    cannot be mended from here: it stays in what is returned, with code ``netns-gone``.
    """
    with host_lock(root, "mend networks"):
        found = observe(root, inside=inside)
        if not found.deviations:
            return ()
        records = {record.network.id: record for record in found.records}
        codes = {deviation.code for deviation in found.deviations}
        if "sysctl" in codes:
            sysctl.ensure_host(root)
        _mend_firewall(root, found)
        for network_id in _wrong_networks(found.deviations):
            if networks is None or network_id in networks:
                with Netlink() as netlink:
                    plumbing.ensure_bridge(netlink, records[network_id])
        for network_id, container_id in _wrong_links(found.deviations):
            if containers is None or container_id in containers:
                extra = ("address-extra", network_id, container_id) in {
                    (d.code, d.network, d.container) for d in found.deviations
                }
                _relink(root, network_id, container_id, strip=extra)
        if "zone" in codes:
            dns.write_zones(root)
        return observe(root, inside=inside).deviations


class _Reading:
    """What the kernel says of bridges and links, and what is wrong with it."""

    def __init__(self, netlink: Netlink, records: tuple[Record, ...], target: Wanted) -> None:
        self._netlink = netlink
        self._target = target
        self._addresses = rtnetlink.addresses(netlink)
        self._inside: dict[int, dict[int, tuple[str, ...]]] = {}
        self.forwards = True
        """Whether the host does, so that it matters whether a bridge does."""
        self.links: dict[str, Link] = {}
        for record in records:
            bridge = rtnetlink.get_link(netlink, record.network.bridge)
            if bridge is not None:
                self.links[bridge.name] = bridge
                self.links.update({p.name: p for p in rtnetlink.ports(netlink, bridge.index)})
        for record in records:
            for lease in record.leases:
                if lease.netns and lease.link not in self.links:
                    # Gone, or no longer in its bridge.
                    link = rtnetlink.get_link(netlink, lease.link)
                    if link is not None:
                        self.links[link.name] = link

    def of_network(self, record: Record) -> Iterator[Deviation]:
        """Yield what is wrong with one network, its bridge first."""
        bridge = self.links.get(record.network.bridge)
        if bridge is None:
            yield self._of_bridge(record, "bridge-gone", "is gone")
        else:
            yield from self._wrong_bridge(record, bridge)
        for lease in record.leases:
            if lease.netns:
                yield from self._of_lease(record.network, lease, bridge)

    def _wrong_bridge(self, record: Record, bridge: Link) -> Iterator[Deviation]:
        wanted = record.network
        if not bridge.up:
            yield self._of_bridge(record, "bridge-down", "is down")
        if (bridge.kind, bridge.mac, bridge.mtu) != ("bridge", wanted.mac, wanted.mtu):
            yield Deviation(
                "bridge-wrong",
                f"bridge {bridge.name} is a {bridge.kind} with address {bridge.mac} and mtu "
                f"{bridge.mtu} instead of {wanted.mac} and {wanted.mtu}",
                network=wanted.id,
            )
        address = f"{wanted.gateway}/{wanted.prefix}"
        if address not in self._addresses.get(bridge.index, ()):
            yield self._of_bridge(record, "bridge-address", f"lacks its address {address}")
        wanted_settings = sysctl.of_bridge(bridge.name)
        for name, actual in sysctl.deviations(wanted_settings).items():
            if name.endswith(".forwarding") and not self.forwards:
                continue
            text = f"sysctl {name} is {actual} instead of {wanted_settings[name]}"
            yield Deviation("bridge-sysctl", text, network=wanted.id)

    def _of_bridge(self, record: Record, code: str, words: str) -> Deviation:
        network_id = record.network.id
        attached = [lease for lease in record.leases if lease.netns]
        owners, ports = lost_ports(self._target.publications, {lease.ip for lease in attached})
        cut = [f"container {lease.container} is cut off from {network_id}" for lease in attached]
        return Deviation(
            code,
            f"bridge {record.network.bridge} of network {network_id} {words}",
            network=network_id,
            consequences=(*cut, *ports),
            containers=tuple(lease.container for lease in attached),
            owners=owners,
        )

    def _of_lease(self, network: Network, lease: Lease, bridge: Link | None) -> Iterator[Deviation]:
        if not netns.exists(lease.netns):
            text = f"network namespace of container {lease.container} is gone"
            yield self._cut(network, lease, "netns-gone", text)
            return
        link = self.links.get(lease.link)
        where = f"link {lease.link} of container {lease.container}"
        if link is None:
            yield self._cut(network, lease, "link-gone", f"{where} is gone (veth removed)")
            return
        # Without a bridge every link is without a master: said once, of the bridge.
        if bridge is not None and link.master != bridge.index:
            text = f"{where} is not in bridge {bridge.name}"
            yield self._cut(network, lease, "link-detached", text)
        if not link.up:
            yield self._cut(network, lease, "link-down", f"{where} is down")
        elif not link.carrier:
            text = f"link {lease.interface} inside container {lease.container} is down"
            yield self._cut(network, lease, "inside-down", text)
        address = f"{lease.ip}/{network.prefix}"
        if link.netnsid >= 0 and address not in self._addresses_inside(link.netnsid).get(
            plumbing.index_inside(lease.interface), ()
        ):
            text = (
                f"address {address} is missing on {lease.interface} inside container "
                f"{lease.container}"
            )
            yield self._cut(network, lease, "address-missing", text)

    def inside(self, records: Sequence[Record], cut: Collection[str]) -> Iterator[Deviation]:
        """Yield what is wrong in the namespaces of the containers that are not *cut* off."""
        attached = [
            (record.network, lease)
            for record in records
            for lease in record.leases
            if lease.netns and lease.container not in cut
        ]
        routes = netns.visit([lease.netns for _, lease in attached], _default_routes)
        looked_at: set[str] = set()
        for given, lease in attached:
            where = f"inside container {lease.container}"
            own = f"{lease.ip}/{given.prefix}"
            netnsid = self.links[lease.link].netnsid
            found = self._addresses_inside(netnsid).get(plumbing.index_inside(lease.interface), ())
            for extra in found:
                if extra != own:
                    text = f"address {extra} was added to {lease.interface} {where}"
                    yield Deviation("address-extra", text, given.id, lease.container)
            route = (lease.interface, given.gateway)
            if not given.internal and route not in routes.get(lease.netns, (route,)):
                yield Deviation(
                    "route-missing",
                    f"default route via {given.gateway} is missing {where}",
                    given.id,
                    lease.container,
                    consequences=(f"container {lease.container} does not reach the outside",),
                    containers=(lease.container,),
                )
            if lease.netns not in looked_at:
                looked_at.add(lease.netns)
                loopback = rtnetlink.get_link(self._netlink, netns.LOOPBACK, netnsid=netnsid)
                if loopback is not None and not loopback.up:
                    yield Deviation(
                        "lo-down", f"link lo {where} is down", given.id, lease.container
                    )

    def _addresses_inside(self, netnsid: int) -> dict[int, tuple[str, ...]]:
        if netnsid not in self._inside:
            self._inside[netnsid] = rtnetlink.addresses(self._netlink, netnsid=netnsid)
        return self._inside[netnsid]

    def _cut(self, network: Network, lease: Lease, code: str, text: str) -> Deviation:
        owners, ports = lost_ports(self._target.publications, {lease.ip})
        return Deviation(
            code,
            text,
            network=network.id,
            container=lease.container,
            consequences=(f"container {lease.container} is cut off from {network.id}", *ports),
            containers=(lease.container,),
            owners=owners,
        )


def lost_ports(
    publications: Mapping[str, tuple[Publication, ...]], addresses: Collection[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return owners and words of the published ports that lose a backend with *addresses*."""
    owners: dict[str, None] = {}
    words = []
    for owner, published in publications.items():
        for publication in published:
            lost = sum(ip in addresses for ip, _ in publication.backends)
            if lost:
                owners[owner] = None
                words.append(
                    f"port {publication} of {owner} lost {lost} of "
                    f"{len(publication.backends)} backends"
                )
    return tuple(owners), tuple(words)


def _host_settings(records: tuple[Record, ...]) -> Iterator[Deviation]:
    if not records:
        return
    for name, actual in sysctl.deviations(sysctl.HOST).items():
        yield Deviation(
            "sysctl",
            f"sysctl {name} is {actual} instead of {sysctl.HOST[name]}",
            consequences=("containers do not reach the outside", "published ports are closed"),
        )


def _default_routes() -> tuple[tuple[str, str], ...]:
    """Return (interface, gateway) of each default route here; see proc_net_route in proc(5)."""
    with open("/proc/thread-self/net/route", "rb") as file:  # names are any bytes
        rows = [line.split("\t") for line in os.fsdecode(file.read()).split("\n")[1:] if line]
    return tuple(
        (row[0], socket.inet_ntoa(bytes.fromhex(row[2])[::-1]))
        for row in rows
        if (row[1], row[7]) == ("00000000", "00000000")
    )


def _firewall(root: Root, records: tuple[Record, ...], target: Wanted) -> Iterator[Deviation]:
    expected = _zones_of(records)
    for network_id in sorted(expected.keys() | target.zones.keys()):
        if expected.get(network_id) != target.zones.get(network_id):
            yield Deviation(
                "firewall-stale",
                f"the firewall does not know network {network_id} as it is",
                network=network_id,
            )
    yield from _table(root, target)
    yield from hostports.deviations(root, target)


def _table(root: Root, target: Wanted) -> tuple[Deviation, ...]:
    """Look again while somebody changes the firewall: what was wanted is not any more, or yet."""
    found = table.check(root, target)
    for _ in range(_LOOKS):
        now = firewall.wanted(root)
        if not found or (now == target and not firewall.is_changing(root)):
            break
        target = now
        time.sleep(_COMMIT_S)
        found = table.check(root, target)
    return found


def _zones_of(records: tuple[Record, ...]) -> dict[str, Zone]:
    return {
        n.id: Zone(n.bridge, n.subnet, n.gateway, n.internal) for n in (r.network for r in records)
    }


def _zones(root: Root, records: tuple[Record, ...]) -> Iterator[Deviation]:
    for record in dns.stale(root, records):
        yield Deviation(
            "zone",
            f"zone file of network {record.network.id} is missing or changed",
            network=record.network.id,
            consequences=(f"names on network {record.network.id} do not resolve",),
        )


def _mend_firewall(root: Root, snapshot: Snapshot) -> None:
    codes = {deviation.code for deviation in snapshot.deviations}
    if "firewall-stale" in codes:
        with firewall.commit(root) as change:
            known = {record.network.id: record.network for record in snapshot.records}
            for network_id in change.wanted.zones:
                if network_id not in known:
                    change.remove_network(network_id)
            for given in known.values():
                change.add_network(given)
    if codes & {*table.CODES, hostports.CODE}:
        firewall.reload(root)


def _wrong_networks(deviations: Iterable[Deviation]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(d.network for d in deviations if d.code.startswith("bridge-")))


def _wrong_links(deviations: Iterable[Deviation]) -> tuple[tuple[str, str], ...]:
    return tuple(
        dict.fromkeys(
            (d.network, d.container) for d in deviations if d.container and d.code != "netns-gone"
        )
    )


def _relink(root: Root, network_id: str, container_id: str, *, strip: bool) -> None:
    try:
        attachment.relink(root, network_id, container_id, strip=strip)
    except (NetworkError, NotFoundError):
        # Bridge or namespace went away meanwhile, or the container did: the second observation
        # says so, or has nothing to say.
        return
