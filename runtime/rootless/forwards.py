"""Ports of the host that are handed on into a user's network namespace. Pure.

A published port is open in two places: on the host, where slirp4netns listens, and in the network
namespace, where the firewall sends what comes in to a container. What comes to one address of the
host arrives at one address in the namespace, so that the firewall can tell.
"""

from collections.abc import Collection, Iterable

from runtime.record import dataclass

ANY = "0.0.0.0"
GUEST = "10.0.2.100"
"""The namespace's own address, by which it reaches the outside."""
_GUESTS = "10.0.2."
_FIRST_LOOPBACK = 100
_LOOPBACK = "127.0.0."
_MOST_LOOPBACKS = 150


@dataclass(frozen=True, slots=True, order=True)
class Forward:
    """One port of the host."""

    protocol: str
    """``tcp`` or ``udp``"""
    ip: str
    """Of the host; ANY is all of its addresses."""
    port: int
    """The same in the namespace."""

    def meets(self, other: "Forward") -> bool:
        """Tell whether the host cannot have both."""
        if (self.protocol, self.port) != (other.protocol, other.port):
            return False
        return self.ip == other.ip or ANY in (self.ip, other.ip)

    def __str__(self) -> str:
        where = "" if self.ip == ANY else f"{self.ip}:"
        return f"{where}{self.port}/{self.protocol}"


def arrives_at(ip: str) -> str:
    """Return the address in the namespace for an address of the host.

    For one of the host's loopback that is another one: packets to a loopback cannot come from
    outside. Any other keeps its own. The link to the outside gets them in addition.

    Raises:
        ValueError: there is none for a loopback address above 127.0.0.150.
    """
    if ip == ANY:
        return GUEST
    if not ip.startswith("127."):
        return ip
    number = ip.removeprefix(_LOOPBACK)
    if not (number.isdecimal() and 0 < int(number) <= _MOST_LOOPBACKS):
        raise ValueError(f"{ip}: of the host's loopback, 127.0.0.1 to 127.0.0.150 can be used")
    return f"{_GUESTS}{_FIRST_LOOPBACK + int(number)}"


def extra_addresses(forwards: Iterable[Forward]) -> frozenset[str]:
    """Return the addresses the namespace's link must have for *forwards*, beside GUEST."""
    return frozenset(arrives_at(f.ip) for f in forwards) - {GUEST}


def in_the_way(given: Collection[Forward], wanted: Iterable[Forward]) -> frozenset[Forward]:
    """Return those *given* that must be closed before some of *wanted* can be opened."""
    fresh = [forward for forward in wanted if forward not in given]
    return frozenset(old for old in given if any(old.meets(new) for new in fresh))
