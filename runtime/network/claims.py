"""Ports of the host that other nft tables redirect: of other worlds, and of other programs.

Each table with a NAT chain sees a connection's first packet; the first one to redirect it has it,
and whoever comes later gets nothing, without any error. So others are asked before publishing.
What iptables keeps in extensions of its own (``multiport``) nft does not list; a redirection by
legacy iptables is not seen at all.
"""

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from runtime.network.foreign import LONGEST_PATH, Table, field_name, tables
from runtime.network.model import ANY_ADDRESS, Publication
from runtime.network.ruleset import PUBLISHED, PUBLISHED_AT
from runtime.record import dataclass
from runtime.root import Root, is_nft_table

_PROTOCOLS = frozenset({"tcp", "udp"})
_ALL_PORTS = ((0, 65535),)
_REDIRECTING = ("dnat", "redirect")
_XT_REDIRECTING = ("DNAT", "REDIRECT", "NETMAP")
_FIB_LOCAL = {"fib": {"result": "type", "flags": ["daddr"]}}

Ranges = tuple[tuple[int, int], ...]
"""Lowest and highest port each."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Packets somebody else redirects; as a whole, or narrowed down by the rules so far."""

    table: str
    """``inet bayplan_9fef``"""
    chain: str = ""
    protocols: frozenset[str] = _PROTOCOLS
    ports: Ranges = _ALL_PORTS
    addresses: tuple[ipaddress.IPv4Network, ...] = ()
    """Of the host; none: all."""
    of_world: bool = False
    """Whether another world of bayplan publishes it."""
    certain: bool = True
    """False: a condition on the way could not be judged."""

    def takes(self, publication: Publication) -> bool:
        """Tell whether packets of *publication* are among them."""
        if publication.protocol not in self.protocols:
            return False
        if not any(low <= publication.port <= high for low, high in self.ports):
            return False
        if not self.addresses or publication.ip == ANY_ADDRESS:
            return True
        return any(ipaddress.IPv4Address(publication.ip) in each for each in self.addresses)


def foreign_claims(root: Root) -> tuple[Claim, ...]:
    """Read all tables but this world's own. Read-only; costs a call of nft a table.

    Raises:
        UnsupportedHostError: there is no nft.
        NetworkError: nft refused.
    """
    found: list[Claim] = []
    for table in tables(root.nft_table):
        if table.family == "inet" and is_nft_table(table.name):
            found.extend(_published(table))
        else:
            found.extend(_redirected(table))
    return tuple(found)


def _published(table: Table) -> Iterator[Claim]:
    """Yield what the two maps of another world publish."""
    for name in (PUBLISHED, PUBLISHED_AT):
        for key, verdict in table.sets.get(name, ()):
            *address, protocol, port = key["concat"]
            yield Claim(
                str(table),
                verdict["goto"]["target"],
                frozenset({protocol}),
                ((port, port),),
                tuple(map(ipaddress.IPv4Network, address)),
                of_world=True,
            )


def _redirected(table: Table) -> Iterator[Claim]:
    for chain, given in table.chains.items():
        if (given.get("type"), given.get("hook")) == ("nat", "prerouting"):
            yield from _walk(table, chain, Claim(str(table)), 0)


def _walk(table: Table, chain: str, path: Claim, depth: int) -> Iterator[Claim]:
    """Yield what the rules of *chain* redirect of the packets that come to it, *path*."""
    for expressions in table.rules.get(chain, ()) if depth < LONGEST_PATH else ():
        here: Claim | None = replace(path, chain=chain)
        for expression in expressions:
            ((kind, given),) = expression.items()
            if here is None:
                break
            if kind == "match":
                here = _narrowed(table, given, here)
            elif kind in ("jump", "goto"):
                yield from _walk(table, given["target"], here, depth + 1)
            elif kind in _REDIRECTING or (kind == "xt" and given["name"] in _XT_REDIRECTING):
                # Without a port, and with a condition nobody knows, it says nothing of a port.
                if here.certain or here.ports != _ALL_PORTS:
                    yield here
            elif kind in ("xt", "limit", "vmap"):
                here = replace(here, certain=False)
            elif kind in ("accept", "return") and not _is_about_links(expressions):
                # Some of them do not get to what follows.
                path = replace(path, certain=False)


def _narrowed(table: Table, match: dict[str, Any], path: Claim) -> Claim | None:
    """Return the packets of *path* that meet a match; None if there are none."""
    name, choices = field_name(match["left"]), table.choices(match["right"])
    if match["op"] == "!=" and name == "meta iifname":
        return path  # said of bridges; traffic from outside comes in elsewhere
    if match["op"] != "==" or choices is None:
        return replace(path, certain=False)
    if match["left"] == _FIB_LOCAL and match["right"] == "local":
        return path
    try:
        if name in ("meta l4proto", "ip protocol"):
            narrowed = replace(path, protocols=path.protocols & set(choices))
        elif name in ("tcp dport", "udp dport", "th dport"):
            protocol = _PROTOCOLS if name == "th dport" else {name[:3]}
            ports = tuple(_common(path.ports, map(_range, choices)))
            narrowed = replace(path, protocols=path.protocols & protocol, ports=ports)
        elif name == "ip daddr":
            narrowed = replace(path, addresses=tuple(map(_network, choices)))
        else:
            return replace(path, certain=False)
    except (KeyError, TypeError, ValueError):  # spelled in a way we do not know
        return replace(path, certain=False)
    return narrowed if narrowed.protocols and narrowed.ports else None


def _common(ones: Ranges, others: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    for low, high in others:
        for lowest, highest in ones:
            if max(low, lowest) <= min(high, highest):
                yield max(low, lowest), min(high, highest)


def _range(choice: Any) -> tuple[int, int]:
    if isinstance(choice, dict):
        low, high = choice["range"]
        return int(low), int(high)
    return int(choice), int(choice)


def _network(choice: Any) -> ipaddress.IPv4Network:
    if isinstance(choice, dict):
        prefix = choice["prefix"]
        return ipaddress.IPv4Network(f"{prefix['addr']}/{prefix['len']}", strict=False)
    return ipaddress.IPv4Network(choice)


def _is_about_links(expressions: list[dict[str, Any]]) -> bool:
    """Tell whether a rule is for what comes from one link, as Docker's for its own bridges."""
    matches = (given["match"] for given in expressions if "match" in given)
    return any(field_name(m["left"]) == "meta iifname" and m["op"] == "==" for m in matches)
