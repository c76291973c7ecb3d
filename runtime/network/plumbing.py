"""Bridges and veth pairs: bring the kernel to what network and lease say.

Knows nothing of files and locks. What is right already is left alone.
"""

import errno
import os
import re
import time

from runtime.errors import KernelError, NetworkError
from runtime.kernel.netlink import Message, Netlink
from runtime.network import netns, rtnetlink, sysctl
from runtime.network.model import Lease, Network, Record

_INTERFACE = re.compile(r"eth(0|[1-9][0-9]{0,3})")
_FIRST_INDEX = 100
"""Of ``eth0`` inside; lower numbers may be taken by fallback tunnels the kernel makes."""
_ATTEMPTS = 8
_OPERATION_S = 3.0
_PAUSE_S = 0.001


def interface_number(interface: str) -> int:
    """Return N of ``ethN``.

    Raises:
        NetworkError: it is called something else.
    """
    match = _INTERFACE.fullmatch(interface)
    if match is None:
        raise NetworkError(f"interface {interface!r} is not called eth and a number")
    return int(match[1])


def index_inside(interface: str) -> int:
    """Return the index the interface has inside every container."""
    return _FIRST_INDEX + interface_number(interface)


def ensure_bridge(netlink: Netlink, record: Record) -> None:
    """Make or mend the bridge, and take back the links of the network that lost it."""
    network = record.network
    bridge = rtnetlink.get_link(netlink, network.bridge)
    if bridge is None:
        netlink.request([rtnetlink.add_bridge(network.bridge, mac=network.mac)])
        bridge = rtnetlink.get_link(netlink, network.bridge)
    elif bridge.kind != "bridge":
        raise NetworkError(f"link {network.bridge} is no bridge but a {bridge.kind or 'device'}")
    if bridge is None:
        raise NetworkError(f"bridge {network.bridge} vanished while it was made")
    # Before it goes up: see of_bridge.
    sysctl.ensure(sysctl.of_bridge(network.bridge))
    if not bridge.up or bridge.mac != network.mac or bridge.mtu != network.mtu:
        netlink.request(
            [rtnetlink.set_link(network.bridge, up=True, mac=network.mac, mtu=network.mtu)]
        )
    if f"{network.gateway}/{network.prefix}" not in rtnetlink.addresses(netlink).get(
        bridge.index, ()
    ):
        netlink.request([rtnetlink.add_address(bridge.index, network.gateway, network.prefix)])
    _take_back(netlink, record, bridge)


def has_link(netlink: Netlink, lease: Lease, path: str) -> bool:
    """Return whether the lease's link is there and leads into the namespace pinned at *path*."""
    if not lease.link or lease.netns != path:
        return False
    link = rtnetlink.get_link(netlink, lease.link)
    if link is None:
        return False
    fd = netns.open_pinned(path)
    try:
        return link.netnsid == rtnetlink.get_netnsid(netlink, fd)
    finally:
        os.close(fd)


def connect(network: Network, lease: Lease, *, strip: bool = False) -> None:
    """Bring the container's link, address, route and neighbours to what the lease says.

    With *strip* its interface keeps no other address.

    Raises:
        NetworkError: the namespace or the bridge is gone.
    """
    fd = netns.open_pinned(lease.netns)
    try:
        with Netlink() as netlink:
            bridge = rtnetlink.get_link(netlink, network.bridge)
            if bridge is None:
                raise NetworkError(f"bridge {network.bridge} of network {network.id} is gone")
            if rtnetlink.get_link(netlink, lease.link) is None:
                _add_veth(netlink, network, lease, bridge, fd)
            else:
                netlink.request(_mend_port(network, lease, bridge))
        with netns.open_netlink(fd) as inner:
            inner.request(_inside(network, lease))
            if strip:
                inner.request(_strip(inner, network, lease))
    finally:
        os.close(fd)


def await_operation(lease: Lease) -> None:
    """Wait until both ends of the lease's link let through what is sent; before, it is lost.

    That is left to a worker of the kernel's, who waits for his turn where links come and go. Since
    Linux 6.8 it is done for whoever looks (linkwatch_sync_dev); before, it must be waited for.

    Raises:
        NetworkError: the namespace is gone.
    """
    until = time.monotonic() + _OPERATION_S
    fd = netns.open_pinned(lease.netns)
    try:
        with netns.open_netlink(fd) as inner, Netlink() as outer:
            for netlink, which in ((inner, index_inside(lease.interface)), (outer, lease.link)):
                # Whoever has set one down since then, or taken it away, has his reasons.
                while (link := rtnetlink.get_link(netlink, which)) and not link.operational:
                    if time.monotonic() > until:
                        return
                    time.sleep(_PAUSE_S)
    finally:
        os.close(fd)


def forget_neighbour(netlink: Netlink, network: Network, ip: str) -> None:
    """Drop the fixed hardware address of *ip*; absent is fine."""
    bridge = rtnetlink.get_link(netlink, network.bridge)
    if bridge is not None:
        netlink.request([rtnetlink.delete_neighbour(bridge.index, ip)])


def _add_veth(
    netlink: Netlink, network: Network, lease: Lease, bridge: rtnetlink.Link, fd: int
) -> None:
    for attempt in range(_ATTEMPTS):
        veth = rtnetlink.add_veth(
            lease.link,
            master=bridge.index,
            mtu=network.mtu,
            peer=lease.interface,
            peer_index=index_inside(lease.interface),
            peer_mac=lease.mac,
            netns=fd,
        )
        try:
            netlink.request(
                [
                    veth,
                    rtnetlink.set_hairpin(lease.link),
                    rtnetlink.set_no_ipv6(lease.link),
                    rtnetlink.set_link(lease.link, up=True),
                    rtnetlink.add_neighbour(bridge.index, lease.ip, lease.mac),
                ]
            )
            return
        except KernelError as error:
            # The random index is taken (see add_veth).
            if error.errno != errno.EBUSY or attempt == _ATTEMPTS - 1:
                raise


def _mend_port(network: Network, lease: Lease, bridge: rtnetlink.Link) -> list[Message]:
    return [
        rtnetlink.set_link(lease.link, master=bridge.index, mtu=network.mtu),
        rtnetlink.set_hairpin(lease.link),
        rtnetlink.set_link(lease.link, up=True),
        rtnetlink.add_neighbour(bridge.index, lease.ip, lease.mac),
    ]


def _inside(network: Network, lease: Lease) -> list[Message]:
    index = index_inside(lease.interface)
    messages = [
        rtnetlink.set_link(netns.LOOPBACK, up=True),
        rtnetlink.set_link(index, up=True, mtu=network.mtu),
        rtnetlink.add_address(index, lease.ip, network.prefix),
        rtnetlink.add_neighbour(index, network.gateway, network.mac),
    ]
    if not network.internal:
        metric = interface_number(lease.interface)
        messages.append(rtnetlink.add_default_route(index, network.gateway, metric=metric))
    return messages


def _strip(inner: Netlink, network: Network, lease: Lease) -> list[Message]:
    index = index_inside(lease.interface)
    extra = [
        given.partition("/")
        for given in rtnetlink.addresses(inner).get(index, ())
        if given != f"{lease.ip}/{network.prefix}"
    ]
    return [rtnetlink.delete_address(index, ip, int(prefix)) for ip, _, prefix in extra]


def _take_back(netlink: Netlink, record: Record, bridge: rtnetlink.Link) -> None:
    network = record.network
    attached = [lease for lease in record.leases if lease.netns]
    if not attached:
        return
    present = {port.name: port for port in rtnetlink.ports(netlink, bridge.index)}
    for lease in attached:
        port = present.get(lease.link) or rtnetlink.get_link(netlink, lease.link)
        # A link that is gone is a cause of its own, not this network's: see observe.
        if port is None or not netns.exists(lease.netns):
            continue
        if port.mtu != network.mtu:
            connect(network, lease)
        elif port.master != bridge.index:
            netlink.request(_mend_port(network, lease, bridge))
