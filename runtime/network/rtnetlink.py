"""Links, addresses, routes and neighbours as netlink messages, and what the kernel answers.

Messages are data: build several, send them with one ``Netlink.request``. IPv4 only.

Source: rtnetlink(7), linux/if_link.h, linux/if_addr.h, linux/rtnetlink.h, linux/neighbour.h.
"""

import errno
import os
import socket
import struct

from runtime.kernel.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Message,
    Netlink,
    attribute,
    attributes,
    nested,
    text,
)
from runtime.record import dataclass

RTM_NEWLINK = 16
RTM_DELLINK = 17
RTM_GETLINK = 18
RTM_NEWADDR = 20
RTM_DELADDR = 21
RTM_GETADDR = 22
RTM_NEWROUTE = 24
RTM_GETROUTE = 26
RTM_NEWNEIGH = 28
RTM_DELNEIGH = 29

IF_OPER_UP = 6
IFF_UP = 0x1
IFF_LOWER_UP = 0x10000

IFLA_ADDRESS = 1
IFLA_IFNAME = 3
IFLA_MTU = 4
IFLA_MASTER = 10
IFLA_OPERSTATE = 16
IFLA_LINKINFO = 18
IFLA_AF_SPEC = 26
IFLA_NET_NS_FD = 28
IFLA_EXT_MASK = 29
IFLA_LINK_NETNSID = 37
IFLA_TARGET_NETNSID = 46
RTEXT_FILTER_SKIP_STATS = 8
IFLA_INFO_KIND = 1
IFLA_INFO_DATA = 2
IFLA_INFO_SLAVE_KIND = 4
IFLA_INFO_SLAVE_DATA = 5
IFLA_BR_MCAST_SNOOPING = 23
IFLA_BRPORT_MODE = 4
VETH_INFO_PEER = 1
IFLA_INET6_ADDR_GEN_MODE = 8
IN6_ADDR_GEN_MODE_NONE = 1

IFA_ADDRESS = 1
IFA_LOCAL = 2
IFA_BROADCAST = 4
IFA_TARGET_NETNSID = 10

RTA_DST = 1
RTA_OIF = 4
RTA_GATEWAY = 5
RTA_PRIORITY = 6
RTA_TABLE = 15
RT_TABLE_MAIN = 254
RTPROT_STATIC = 4
RT_SCOPE_UNIVERSE = 0
RTN_UNICAST = 1

NDA_DST = 1
NDA_LLADDR = 2
NUD_PERMANENT = 0x80

RTM_GETNSID = 90
NETNSA_NSID = 1
NETNSA_FD = 3

_RTGENMSG = bytes(4)
_IFINFOMSG = struct.Struct("=BBHiII")
_IFADDRMSG = struct.Struct("=BBBBi")
_RTMSG = struct.Struct("=BBBBBBBBI")
_NDMSG = struct.Struct("=BBHiHBB")
_CREATE = NLM_F_CREATE | NLM_F_EXCL


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface."""

    index: int
    name: str
    up: bool
    carrier: bool
    """The other end of a veth is up too."""
    operational: bool
    """It lets packets through, RFC 2863's up; a bridge's port forwards."""
    master: int
    """Index of the bridge it is a port of; 0 none."""
    mac: str
    mtu: int
    netnsid: int
    """The kernel's number, in this namespace, of the one a veth's other end is in; -1 none."""
    kind: str
    """``veth``, ``bridge``; empty for hardware."""


@dataclass(frozen=True, slots=True)
class Route:
    """An IPv4 route; the default route's *destination* is ``0.0.0.0/0``."""

    destination: str
    gateway: str
    index: int
    metric: int
    table: int


def add_bridge(name: str, *, mac: str) -> Message:
    """Make a bridge, down; fails if the name exists.

    Multicast is flooded: without a querier, snooping would stop it after some minutes. The MTU is
    to be set afterwards: one given here would follow the ports'.
    """
    data = nested(IFLA_INFO_DATA, attribute(IFLA_BR_MCAST_SNOOPING, b"\0"))
    body = (
        _IFINFOMSG.pack(0, 0, 0, 0, 0, 0)
        + text(IFLA_IFNAME, name)
        + attribute(IFLA_ADDRESS, _mac(mac))
        + nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "bridge"), data)
    )
    return Message(RTM_NEWLINK, _CREATE, body, f"add bridge {name}")


def add_veth(
    name: str,
    *,
    master: int,
    mtu: int,
    peer: str,
    peer_index: int,
    peer_mac: str,
    netns: int,
) -> Message:
    """Make a veth pair in one step: *name* down here as a port of *master*, *peer* down in *netns*.

    *netns* is a descriptor. The peer's index is forced, so that what follows inside needs no
    look-up; the kernel heeds it only when this end's is forced too, so that is a random one. One
    that is taken gives EBUSY: try again.
    """
    index = 1 << 30 | int.from_bytes(os.urandom(4), "big") >> 2
    other = (
        _IFINFOMSG.pack(0, 0, 0, peer_index, 0, 0)
        + text(IFLA_IFNAME, peer)
        + attribute(IFLA_ADDRESS, _mac(peer_mac))
        + _u32(IFLA_MTU, mtu)
        + _u32(IFLA_NET_NS_FD, netns)
    )
    data = nested(IFLA_INFO_DATA, nested(VETH_INFO_PEER, other))
    body = (
        _IFINFOMSG.pack(0, 0, 0, index, 0, 0)
        + text(IFLA_IFNAME, name)
        + _u32(IFLA_MTU, mtu)
        + _u32(IFLA_MASTER, master)
        + nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "veth"), data)
    )
    return Message(RTM_NEWLINK, _CREATE, body, f"add veth {name}")


def set_hairpin(name: str) -> Message:
    """Let a bridge port send back to itself.

    That is what lets a container reach itself through its published port where bridged packets
    pass the IP firewall (net.bridge.bridge-nf-call-iptables).
    """
    port = nested(IFLA_INFO_SLAVE_DATA, attribute(IFLA_BRPORT_MODE, b"\1"))
    body = (
        _IFINFOMSG.pack(0, 0, 0, 0, 0, 0)
        + text(IFLA_IFNAME, name)
        + nested(IFLA_LINKINFO, text(IFLA_INFO_SLAVE_KIND, "bridge"), port)
    )
    return Message(RTM_NEWLINK, 0, body, f"set port {name}")


def set_no_ipv6(name: str) -> Message:
    """Let a link never make itself an IPv6 address; to be sent before it goes up.

    A kernel without IPv6, or a link too narrow for it (1,280 bytes), is fine.
    """
    addressing = attribute(IFLA_INET6_ADDR_GEN_MODE, bytes([IN6_ADDR_GEN_MODE_NONE]))
    body = (
        _IFINFOMSG.pack(0, 0, 0, 0, 0, 0)
        + text(IFLA_IFNAME, name)
        + nested(IFLA_AF_SPEC, nested(socket.AF_INET6, addressing))
    )
    what = f"set addressing of {name}"
    return Message(RTM_NEWLINK, 0, body, what, tolerate=(errno.EAFNOSUPPORT,))


def set_link(
    which: str | int,
    *,
    up: bool | None = None,
    master: int | None = None,
    mac: str | None = None,
    mtu: int | None = None,
) -> Message:
    """Change what is given of the link of that name or index; *master* 0: out of its bridge."""
    flags, mask = (IFF_UP if up else 0, 0 if up is None else IFF_UP)
    index, name = (0, text(IFLA_IFNAME, which)) if isinstance(which, str) else (which, b"")
    body = _IFINFOMSG.pack(0, 0, 0, index, flags, mask) + name
    if master is not None:
        body += _u32(IFLA_MASTER, master)
    if mac is not None:
        body += attribute(IFLA_ADDRESS, _mac(mac))
    if mtu is not None:
        body += _u32(IFLA_MTU, mtu)
    return Message(RTM_NEWLINK, 0, body, f"set link {which}")


def delete_link(name: str) -> Message:
    """Delete a link; absent is fine. Slow (tens of milliseconds, with a global lock held)."""
    body = _IFINFOMSG.pack(0, 0, 0, 0, 0, 0) + text(IFLA_IFNAME, name)
    return Message(RTM_DELLINK, 0, body, f"delete link {name}", tolerate=(errno.ENODEV,))


def add_address(index: int, ip: str, prefix: int) -> Message:
    """Give a link an address; there already is fine."""
    packed = socket.inet_aton(ip)
    mask = (1 << (32 - prefix)) - 1
    broadcast = (int.from_bytes(packed, "big") | mask).to_bytes(4, "big")
    body = (
        _IFADDRMSG.pack(socket.AF_INET, prefix, 0, 0, index)
        + attribute(IFA_LOCAL, packed)
        + attribute(IFA_ADDRESS, packed)
        + attribute(IFA_BROADCAST, broadcast)
    )
    return Message(RTM_NEWADDR, _CREATE, body, f"add address {ip}", tolerate=(errno.EEXIST,))


def delete_address(index: int, ip: str, prefix: int) -> Message:
    """Take an address from a link; absent is fine."""
    body = _IFADDRMSG.pack(socket.AF_INET, prefix, 0, 0, index)
    body += attribute(IFA_LOCAL, socket.inet_aton(ip))
    return Message(RTM_DELADDR, 0, body, f"delete address {ip}", tolerate=(errno.EADDRNOTAVAIL,))


def add_default_route(index: int, gateway: str, *, metric: int) -> Message:
    """Send everything else to *gateway*; there already is fine."""
    body = (
        _RTMSG.pack(
            socket.AF_INET, 0, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_UNIVERSE, RTN_UNICAST, 0
        )
        + attribute(RTA_GATEWAY, socket.inet_aton(gateway))
        + _u32(RTA_OIF, index)
        + _u32(RTA_PRIORITY, metric)
    )
    return Message(
        RTM_NEWROUTE, _CREATE, body, f"add default route via {gateway}", tolerate=(errno.EEXIST,)
    )


def add_neighbour(index: int, ip: str, mac: str) -> Message:
    """Fix an address' hardware address, whatever was known of it."""
    body = (
        _NDMSG.pack(socket.AF_INET, 0, 0, index, NUD_PERMANENT, 0, 0)
        + attribute(NDA_DST, socket.inet_aton(ip))
        + attribute(NDA_LLADDR, _mac(mac))
    )
    return Message(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, body, f"add neighbour {ip}")


def delete_neighbour(index: int, ip: str) -> Message:
    """Forget a neighbour; absent is fine."""
    body = _NDMSG.pack(socket.AF_INET, 0, 0, index, 0, 0, 0)
    body += attribute(NDA_DST, socket.inet_aton(ip))
    return Message(
        RTM_DELNEIGH,
        0,
        body,
        f"delete neighbour {ip}",
        tolerate=(errno.ENOENT, errno.ENODEV, errno.EINVAL),
    )


def get_link(netlink: Netlink, which: str | int, *, netnsid: int = -1) -> Link | None:
    """Return the link of that name or index, here or in the namespace of that number, or None."""
    index, name = (0, text(IFLA_IFNAME, which)) if isinstance(which, str) else (which, b"")
    body = (
        _IFINFOMSG.pack(0, 0, 0, index, 0, 0) + name + _u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
    )
    if netnsid >= 0:
        body += _u32(IFLA_TARGET_NETNSID, netnsid)
    message = Message(
        RTM_GETLINK, 0, body, f"get link {which}", tolerate=(errno.ENODEV, errno.EINVAL)
    )
    answer = netlink.ask(message)
    return _link(answer) if answer is not None else None


def get_netnsid(netlink: Netlink, netns: int) -> int:
    """Return the number this namespace has for the one descriptor *netns* refers to; -1: none."""
    body = _RTGENMSG + _u32(NETNSA_FD, netns)
    answer = netlink.ask(Message(RTM_GETNSID, 0, body, "get namespace number"))
    given = attributes(answer or b"", len(_RTGENMSG))
    number: int = struct.unpack("=i", given[NETNSA_NSID])[0]
    return number


def ports(netlink: Netlink, bridge_index: int) -> tuple[Link, ...]:
    """Return the ports of a bridge."""
    body = (
        _IFINFOMSG.pack(0, 0, 0, 0, 0, 0)
        + _u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
        + _u32(IFLA_MASTER, bridge_index)
    )
    return tuple(map(_link, netlink.dump(Message(RTM_GETLINK, 0, body, "list links"))))


def addresses(netlink: Netlink, *, netnsid: int = -1) -> dict[int, tuple[str, ...]]:
    """Return ``ip/prefix`` of each link by index, here or in the namespace of that number.

    A number of a namespace that is gone gives nothing.
    """
    body = _IFADDRMSG.pack(socket.AF_INET, 0, 0, 0, 0)
    if netnsid >= 0:
        body += struct.pack("=HHi", 8, IFA_TARGET_NETNSID, netnsid)
    found: dict[int, tuple[str, ...]] = {}
    message = Message(RTM_GETADDR, 0, body, "list addresses", tolerate=(errno.EINVAL,))
    for payload in netlink.dump(message):
        _, prefix, _, _, index = _IFADDRMSG.unpack_from(payload)
        local = attributes(payload, _IFADDRMSG.size).get(IFA_LOCAL)
        if local is not None:
            found[index] = (*found.get(index, ()), f"{socket.inet_ntoa(local)}/{prefix}")
    return found


def routes(netlink: Netlink) -> tuple[Route, ...]:
    """Return the IPv4 routes of all tables, the kernel's own table of local addresses included."""
    body = _RTMSG.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
    found = []
    for payload in netlink.dump(Message(RTM_GETROUTE, 0, body, "list routes")):
        _, length, _, _, table, _, _, _, _ = _RTMSG.unpack_from(payload)
        given = attributes(payload, _RTMSG.size)
        found.append(
            Route(
                destination=f"{socket.inet_ntoa(given.get(RTA_DST, bytes(4)))}/{length}",
                gateway=socket.inet_ntoa(given[RTA_GATEWAY]) if RTA_GATEWAY in given else "",
                index=_int(given, RTA_OIF),
                metric=_int(given, RTA_PRIORITY),
                table=_int(given, RTA_TABLE) or table,
            )
        )
    return tuple(found)


def _link(payload: bytes) -> Link:
    _, _, _, index, flags, _ = _IFINFOMSG.unpack_from(payload)
    given = attributes(payload, _IFINFOMSG.size)
    info = attributes(given.get(IFLA_LINKINFO, b""))
    netnsid = given.get(IFLA_LINK_NETNSID)
    return Link(
        index=index,
        name=os.fsdecode(given[IFLA_IFNAME].rstrip(b"\0")),
        up=bool(flags & IFF_UP),
        carrier=bool(flags & IFF_LOWER_UP),
        operational=given.get(IFLA_OPERSTATE) == bytes([IF_OPER_UP]),
        master=_int(given, IFLA_MASTER),
        mac=given.get(IFLA_ADDRESS, b"").hex(":"),
        mtu=_int(given, IFLA_MTU),
        netnsid=struct.unpack("=i", netnsid)[0] if netnsid else -1,
        kind=info.get(IFLA_INFO_KIND, b"").rstrip(b"\0").decode(),
    )


def _mac(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _u32(kind: int, value: int) -> bytes:
    return struct.pack("=HHI", 8, kind, value)


def _int(given: dict[int, bytes], kind: int) -> int:
    data = given.get(kind)
    return struct.unpack("=I", data)[0] if data else 0
