"""Make networks, change them, and take them away.

Every function is idempotent and leaves what is right alone. Records are written before the kernel
is changed: what a crash leaves is a deviation, which observe names and repair mends. Who is on
them is the matter of `runtime.network.attachment`.
"""

import socket
from collections.abc import Collection, Sequence
from dataclasses import replace

from runtime.errors import ConflictError, NotFoundError, StateError
from runtime.kernel.netlink import Netlink
from runtime.network import dns, firewall, ipam, plumbing, rtnetlink, store, sysctl
from runtime.network.hostlock import host_lock
from runtime.network.model import Network, Record
from runtime.root import Root

_DEFAULT_MTU = 1500


def ensure_network(
    root: Root,
    network_id: str,
    *,
    subnet: str | None = None,
    gateway: str | None = None,
    internal: bool = False,
    mtu: int | None = None,
    avoid: Collection[str] = (),
) -> Network:
    """Make the network, or bring it to what is asked, and return it.

    Bridge, addresses, sysctls and firewall are in place afterwards. None means: as it is, or for a
    new one a free /24 outside the subnets to *avoid*, the subnet's first address, ``uplink_mtu``.
    *mtu* changes live, for the containers on it too. *network_id* is ``[a-z0-9][a-z0-9._-]*``.

    Raises:
        ConflictError: another subnet or gateway than it has, or the other kind of network
            (that is a replacement), or the subnet overlaps another network or a route of the host.
        NetworkError: the pool is used up, or the subnet cannot be used.
    """
    store.check_id(network_id)
    with host_lock(root, f"make network {network_id}"), Netlink() as netlink:
        try:
            record = store.load(root, network_id)
        except NotFoundError:
            network = _new(root, netlink, network_id, subnet, gateway, internal, mtu, avoid)
            record = Record(network)
            store.save(root, record, durable=True)
        else:
            network = _changed(record.network, subnet, gateway, internal, mtu)
            if network != record.network:
                record = replace(record, network=network)
                store.save(root, record, durable=True)
        with firewall.commit(root) as change:
            change.add_network(network)
        sysctl.ensure_host(root)
        plumbing.ensure_bridge(netlink, record)
        dns.write_zones(root)
    return network


def ensure_there(root: Root, network_id: str) -> None:
    """Make a network again, as it is recorded, of which a boot of the host has taken the bridge.

    Raises:
        NotFoundError: there is none.
    """
    try:
        socket.if_nametoindex(get_network(root, network_id).bridge)
    except OSError:
        ensure_network(root, network_id)


def check_subnet(root: Root, subnet: str, *, leaving: Collection[str] = ()) -> None:
    """Refuse what ``ensure_network`` would refuse once the networks *leaving* are gone. Read-only.

    Raises:
        ConflictError: the subnet overlaps another network or a route of the host.
        NetworkError: the subnet cannot be used.
    """
    with Netlink() as netlink:
        ipam.check_subnet(subnet, _taken(root, rtnetlink.routes(netlink), leaving))


def uplink_mtu() -> int:
    """Return what fits through the way out: larger packets would have to be cut or refused."""
    with Netlink() as netlink:
        return _uplink_mtu(netlink, rtnetlink.routes(netlink))


def get_network(root: Root, network_id: str) -> Network:
    """Return the network as recorded.

    Raises:
        NotFoundError: there is none.
    """
    return store.load(root, network_id).network


def networks(root: Root) -> tuple[Network, ...]:
    """Return all networks as recorded, by id."""
    return tuple(record.network for record in store.load_all(root))


def delete_network(root: Root, network_id: str) -> None:
    """Remove the network; the last one takes the nft table with it; absent is fine.

    Raises:
        StateError: containers hold leases on it; names them.
    """
    with host_lock(root, f"delete network {network_id}"), Netlink() as netlink:
        try:
            record = store.load(root, network_id)
        except NotFoundError:
            return
        holders = sorted(lease.container for lease in record.leases)
        if holders:
            raise StateError(f"cannot delete network {network_id}: used by {', '.join(holders)}")
        with firewall.commit(root) as change:
            change.remove_network(network_id)
        netlink.request([rtnetlink.delete_link(record.network.bridge)])
        store.remove(root, network_id)
        dns.write_zones(root)


def _new(
    root: Root,
    netlink: Netlink,
    network_id: str,
    subnet: str | None,
    gateway: str | None,
    internal: bool,
    mtu: int | None,
    avoid: Collection[str],
) -> Network:
    routes = rtnetlink.routes(netlink)
    taken = _taken(root, routes)
    if subnet is None:
        start = int(root.tag or "0", 16)
        subnet = ipam.choose_subnet((*avoid, *(other for other, _ in taken)), start=start)
    else:
        subnet = ipam.check_subnet(subnet, taken)
    number = store.next_number(root, "network")
    return Network(
        id=network_id,
        number=number,
        bridge=f"{root.link_prefix}n{number:x}",
        subnet=subnet,
        gateway=ipam.check_gateway(subnet, gateway),
        internal=internal,
        mtu=mtu or _uplink_mtu(netlink, routes),
    )


def _taken(
    root: Root, routes: Sequence[rtnetlink.Route], leaving: Collection[str] = ()
) -> list[tuple[str, str]]:
    """Return subnets in use and what uses them, but for networks that are *leaving*."""
    records = store.load_all(root)
    bridges = {r.network.bridge for r in records if r.network.id in leaving}
    going = {index for index, name in socket.if_nameindex() if name in bridges}
    taken = [(r.destination, "a route of this host") for r in routes if r.index not in going]
    staying = (r.network for r in records if r.network.id not in leaving)
    return taken + [(network.subnet, f"network {network.id}") for network in staying]


def _changed(
    network: Network, subnet: str | None, gateway: str | None, internal: bool, mtu: int | None
) -> Network:
    if subnet is not None and ipam.check_subnet(subnet, ()) != network.subnet:
        raise ConflictError(f"network {network.id} has subnet {network.subnet}, not {subnet}")
    if gateway is not None and gateway != network.gateway:
        raise ConflictError(f"network {network.id} has gateway {network.gateway}, not {gateway}")
    if internal != network.internal:
        # Its containers have routes, and may have published ports, by what it is.
        raise ConflictError(f"network {network.id} is {'not ' if internal else ''}internal")
    return replace(network, mtu=mtu or network.mtu)


def _uplink_mtu(netlink: Netlink, routes: tuple[rtnetlink.Route, ...]) -> int:
    for route in routes:
        if route.destination == "0.0.0.0/0":
            link = rtnetlink.get_link(netlink, route.index)
            if link is not None:
                return link.mtu
    return _DEFAULT_MTU
