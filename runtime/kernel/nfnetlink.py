"""Netfilter over netlink: the ruleset's generation, and forgetting UDP flows.

Source: linux/netfilter/nfnetlink.h, nf_tables.h, nfnetlink_conntrack.h.
"""

import socket
import struct
from collections.abc import Callable

from runtime.kernel.netlink import (
    NETLINK_NETFILTER,
    Message,
    Netlink,
    attribute,
    attributes,
    nested,
)
from runtime.record import dataclass

NFNL_SUBSYS_CTNETLINK = 1
NFNL_SUBSYS_NFTABLES = 10
NFT_MSG_GETGEN = 16
NFTA_GEN_ID = 1
IPCTNL_MSG_CT_GET = 1
IPCTNL_MSG_CT_DELETE = 2

CTA_TUPLE_ORIG = 1
CTA_TUPLE_REPLY = 2
CTA_ZONE = 18
CTA_TUPLE_IP = 1
CTA_TUPLE_PROTO = 2
CTA_IP_V4_SRC = 1
CTA_IP_V4_DST = 2
CTA_PROTO_NUM = 1
CTA_PROTO_SRC_PORT = 2
CTA_PROTO_DST_PORT = 3

ENOENT = 2

_NFGENMSG = struct.Struct(">BBH")


@dataclass(frozen=True, slots=True)
class Flow:
    """One tracked UDP flow, as its first packet had it, and where its answers come from."""

    destination: str
    port: int
    answers_from: str
    answers_port: int


def ruleset_generation(netlink: Netlink) -> int:
    """Return the number the kernel raises by one with every committed nft transaction.

    One count per network namespace, over all tables; starts anew at boot.
    """
    message = Message(
        NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN, 0, _NFGENMSG.pack(0, 0, 0), "get generation"
    )
    answer = netlink.ask(message)
    assert answer is not None
    number: int = struct.unpack(">I", attributes(answer, 4)[NFTA_GEN_ID])[0]
    return number


def open_netfilter() -> Netlink:
    """Open a netfilter socket; the caller closes it."""
    return Netlink(NETLINK_NETFILTER)


def forget_udp_flows(netlink: Netlink, doomed: Callable[[Flow], bool]) -> int:
    """Delete every tracked IPv4 UDP flow *doomed* says so of, and return how many went.

    A flow keeps the backend it was given by its first packet, and UDP has no end: without this a
    client goes on talking to a backend that is gone. Reads the whole table.
    """
    kind = NFNL_SUBSYS_CTNETLINK << 8
    family = _NFGENMSG.pack(socket.AF_INET, 0, 0)
    deletions = []
    # The dump stays a full one: filters on ports came only with Linux 5.8.
    for payload in netlink.dump(Message(kind | IPCTNL_MSG_CT_GET, 0, family, "list flows")):
        found = attributes(payload, 4)
        flow = _udp_flow(found)
        if flow is None or not doomed(flow):
            continue
        body = family + nested(CTA_TUPLE_ORIG, found[CTA_TUPLE_ORIG])
        if CTA_ZONE in found:
            body += attribute(CTA_ZONE, found[CTA_ZONE])
        # It may have expired since it was listed.
        deletions.append(
            Message(kind | IPCTNL_MSG_CT_DELETE, 0, body, "delete flow", tolerate=(ENOENT,))
        )
    for start in range(0, len(deletions), 256):
        netlink.request(deletions[start : start + 256])
    return len(deletions)


def _udp_flow(found: dict[int, bytes]) -> Flow | None:
    original = attributes(found[CTA_TUPLE_ORIG])
    protocol = attributes(original[CTA_TUPLE_PROTO])
    if protocol[CTA_PROTO_NUM][0] != socket.IPPROTO_UDP:
        return None
    reply = attributes(found[CTA_TUPLE_REPLY])
    return Flow(
        destination=socket.inet_ntoa(attributes(original[CTA_TUPLE_IP])[CTA_IP_V4_DST]),
        port=int.from_bytes(protocol[CTA_PROTO_DST_PORT], "big"),
        answers_from=socket.inet_ntoa(attributes(reply[CTA_TUPLE_IP])[CTA_IP_V4_SRC]),
        answers_port=int.from_bytes(attributes(reply[CTA_TUPLE_PROTO])[CTA_PROTO_SRC_PORT], "big"),
    )
