"""What the DNS server knows itself: the zone files, read anew when they change.

Part of the DNS process: few imports, no access to anything but the folder it was given.
"""

import json
import os
import random
import socket
import struct
from typing import Any

from runtime.network import dnswire

TTL_S = 5
"""Containers are replaced at any time; some resolvers (Java's) keep what they got that long."""


class Answer:
    """What a zone says: a result code and records; *forward* set: ask these or the host's."""

    __slots__ = ("forward", "rcode", "records")

    def __init__(
        self,
        rcode: int = dnswire.NOERROR,
        records: list[tuple[int, int, bytes]] | None = None,
        *,
        forward: list[str] | None = None,
    ) -> None:
        self.rcode = rcode
        self.records = records or []
        self.forward = forward


class Zone:
    """One zone file."""

    __slots__ = ("clients", "hosts", "internal", "names", "stamp", "subnet")

    def __init__(self, stamp: tuple[int, ...], body: dict[str, Any]) -> None:
        self.stamp = stamp
        self.subnet = parse_subnet(body["subnet"])
        self.internal: bool = body["internal"]
        self.names: dict[str, list[str]] = body["names"]
        self.hosts: dict[str, str] = body["hosts"]
        self.clients: dict[str, dict[str, list[str]]] = body["clients"]

    def holds(self, address: str) -> bool:
        """Return whether *address* is of the network's subnet."""
        base, mask = self.subnet
        return to_number(address) & mask == base


class Zones:
    """All zone files, by the gateway's address. *folder* is an open directory."""

    def __init__(self, folder: int) -> None:
        self._folder = folder
        self._known: dict[str, Zone] = {}

    def get(self, gateway: str) -> Zone | None:
        """Return the zone as its file is now; None where there is none, or none can be read."""
        try:
            fd = os.open(
                f"{gateway}.json", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self._folder
            )
        except FileNotFoundError:
            self._known.pop(gateway, None)
            return None
        try:
            status = os.fstat(fd)
            stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
            known = self._known.get(gateway)
            if known is None or known.stamp != stamp:
                known = Zone(stamp, json.loads(os.read(fd, status.st_size)))
                self._known[gateway] = known
            return known
        except ValueError:  # a loss of power left it so; it is written anew
            return None
        finally:
            os.close(fd)

    def is_orphaned(self) -> bool:
        """Return whether the folder was deleted: a new one may be there under its name."""
        return os.fstat(self._folder).st_nlink == 0

    def answer(self, gateway: str, client: str, question: dnswire.Question) -> Answer | None:
        """Return what *client*, asking at *gateway*, is told; None: nothing, it has no business.

        A container on several networks is told the names of all of them, those of the network
        it asks on first. A name that exists has no records of other types than addresses.
        """
        zone = self.get(gateway)
        if zone is None or not zone.holds(client):
            return None
        given = zone.clients.get(client, {})
        zones = [zone]
        zones += [other for g in given.get("networks", ()) if (other := self.get(g)) is not None]
        if question.qclass == dnswire.CLASS_IN:
            own = _own_answer(zones, question)
            if own is not None:
                return own
        if all(zone.internal for zone in zones):
            return Answer(dnswire.NXDOMAIN)
        return Answer(forward=given.get("servers", []))


def parse_subnet(text: str) -> tuple[int, int]:
    """Return base and mask of ``10.72.0.0/24``."""
    address, _, length = text.partition("/")
    mask = 0xFFFFFFFF << (32 - int(length)) & 0xFFFFFFFF
    return to_number(address) & mask, mask


def to_number(address: str) -> int:
    """Return an IPv4 address as a number."""
    number: int = struct.unpack(">I", socket.inet_aton(address))[0]
    return number


def _own_answer(zones: list[Zone], question: dnswire.Question) -> Answer | None:
    for zone in zones:
        addresses = zone.names.get(question.name)
        if addresses is not None:
            if question.qtype not in (dnswire.TYPE_A, dnswire.TYPE_ANY):
                return Answer()
            # Most programs take the first.
            shuffled = random.sample(addresses, len(addresses))
            return Answer(
                records=[(dnswire.TYPE_A, TTL_S, socket.inet_aton(ip)) for ip in shuffled]
            )
    reverse = dnswire.address_of_reverse(question.name)
    for zone in zones if reverse else ():
        if reverse and zone.holds(reverse):
            host = zone.hosts.get(reverse)
            if host is None:
                return Answer(dnswire.NXDOMAIN)
            if question.qtype not in (dnswire.TYPE_PTR, dnswire.TYPE_ANY):
                return Answer()
            return Answer(records=[(dnswire.TYPE_PTR, TTL_S, dnswire.pack_name(host))])
    return None
