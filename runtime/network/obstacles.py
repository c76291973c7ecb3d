"""Other people's firewall rules that would drop our traffic.

Netfilter asks every table: a drop in one of them is final, whatever ours accepts. So the base
chains of others are read and walked with packets as ours will be. A condition that cannot be
judged from here (an iptables extension, an address nobody knows yet) is taken as not met.
"""

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from runtime.documents import read_note
from runtime.kernel.netlink import Netlink
from runtime.kernel.nfnetlink import open_netfilter, ruleset_generation
from runtime.network import mark, rtnetlink
from runtime.network.files import write_note
from runtime.network.firewall import wanted
from runtime.network.foreign import LONGEST_PATH, Table, field_name, tables
from runtime.network.ruleset import Zone
from runtime.record import dataclass
from runtime.root import Root

_LEGACY = "/proc/net/ip_tables_names"
_BRIDGE_CALLS = "/proc/sys/net/bridge/bridge-nf-call-iptables"
_UPLINK = "an outer link"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A base chain of somebody else that drops what we let through."""

    table: str
    """``ip filter``"""
    chain: str
    why: str
    traffic: str
    """What it stops: ``containers to the outside``, ``outside to published ports`` ..."""
    how_to_allow: tuple[str, ...]
    """Commands for people."""
    certain: bool
    """False: a condition in it could not be judged."""

    def __str__(self) -> str:
        words = "drops" if self.certain else "may drop"
        advice = "; ".join(self.how_to_allow)
        chain = f"chain {self.chain} of nft table {self.table}"
        return f"{chain} {words} {self.traffic}: {self.why}; to allow it: {advice}"


@dataclass(frozen=True, slots=True)
class _Packet:
    traffic: str
    hook: str
    facts: Mapping[str, Any]
    """Of what is matched on: ``meta iifname``, ``ct state``, ``ip daddr``; absent is unknown."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    word: str
    """``accept drop return``"""
    certain: bool
    why: str = ""


def hindrances(root: Root) -> tuple[Obstacle, ...]:
    """Return what is in the way of the networks this world has; nothing where it has none."""
    return foreign_obstacles(root) if wanted(root).zones else ()


def foreign_obstacles(root: Root) -> tuple[Obstacle, ...]:
    """Read all base chains that are not ours; changes nothing but a note in the run folder.

    With the note, and a ruleset that did not change since, nothing is listed.
    """
    zones = tuple(zone for _, zone in sorted(wanted(root).zones.items())) or (_example(root),)
    with Netlink() as netlink:
        uplinks = _uplinks(netlink)
    with open_netfilter() as netfilter:
        generation = ruleset_generation(netfilter)
    packets = [packet for zone in zones for packet in _packets(zone, uplinks)]
    question = {
        **mark.place(),
        "generation": generation,
        "packets": sorted(
            repr(
                sorted((k, sorted(v) if isinstance(v, set) else v) for k, v in packet.facts.items())
            )
            for packet in packets
        ),
    }
    note = root.run / "obstacles.json"
    known = read_note(note)
    if known is None or known["question"] != question:
        found = _ask(root, packets)
        known = {"question": question, "obstacles": [asdict(obstacle) for obstacle in found]}
        write_note(note, known)
    return (*map(_from_note, known["obstacles"]), *_legacy())


def _ask(root: Root, packets: list[_Packet]) -> tuple[Obstacle, ...]:
    found: dict[tuple[str, str, str], Obstacle] = {}
    for table in tables(root.nft_table):
        for chain, given in table.chains.items():
            if given.get("type") != "filter":
                continue
            for packet in packets:
                if given.get("hook") != packet.hook:
                    continue
                verdict = _walk(table, chain, packet, 0)
                word = given.get("policy", "accept") if verdict.word == "return" else verdict.word
                if word == "drop":
                    key = (str(table), chain, packet.traffic)
                    found.setdefault(key, _obstacle(root, table, chain, packet, verdict))
    return tuple(found.values())


def _from_note(given: dict[str, Any]) -> Obstacle:
    return Obstacle(**{**given, "how_to_allow": tuple(given["how_to_allow"])})


def _obstacle(root: Root, table: Table, chain: str, packet: _Packet, verdict: _Verdict) -> Obstacle:
    why = verdict.why or f"policy of chain {chain} is drop"
    return Obstacle(
        table=str(table),
        chain=chain,
        why=why,
        traffic=packet.traffic,
        how_to_allow=tuple(_advice(root, table, chain, packet)),
        certain=verdict.certain,
    )


def _advice(root: Root, table: Table, chain: str, packet: _Packet) -> Iterator[str]:
    ours = f"{root.link_prefix}n"
    inward = packet.hook == "input"
    if table.name == "firewalld":
        bridge = packet.facts["bridge"]
        yield f"firewall-cmd --permanent --zone=trusted --add-interface={bridge}"
        yield "firewall-cmd --reload"
    elif any(name.startswith("ufw") for name in table.chains):
        bridge = packet.facts["bridge"]
        if inward:
            yield f"ufw allow in on {bridge} to any port 53"
        else:
            yield f"ufw route allow in on {bridge}"
            yield f"ufw route allow out on {bridge}"
    elif table.family == "ip" and chain.isupper():
        place = "DOCKER-USER" if "DOCKER-USER" in table.chains and not inward else chain
        yield f"iptables -I {place} -i {ours}+ -j ACCEPT"
        if not inward:
            yield f"iptables -I {place} -o {ours}+ -j ACCEPT"
    else:
        rule = f"nft insert rule {table.family} {table.name} {chain}"
        yield f"{rule} iifname '\"{ours}*\"' accept"
        if not inward:
            yield f"{rule} oifname '\"{ours}*\"' accept"


def _packets(zone: Zone, uplinks: tuple[str, ...]) -> Iterator[_Packet]:
    inside = ipaddress.IPv4Network(zone.subnet)[2]
    common = {
        "bridge": zone.bridge,
        "ct state": {"new"},
        "meta nfproto": "ipv4",
        "meta protocol": "ip",
    }
    out = {**common, "meta iifname": zone.bridge, "ip saddr": str(inside)}
    if not zone.internal:
        for uplink in uplinks:
            yield _Packet(
                "containers to the outside",
                "forward",
                {**out, "meta oifname": uplink, "ct status": set()},
            )
            yield _Packet(
                "outside to published ports",
                "forward",
                {
                    **common,
                    "meta iifname": uplink,
                    "meta oifname": zone.bridge,
                    "ip daddr": str(inside),
                    "ct status": {"dnat"},
                },
            )
    if _bridged_packets_are_filtered():
        yield _Packet(
            "containers of one network to each other",
            "forward",
            {**out, "meta oifname": zone.bridge, "ip daddr": str(inside), "ct status": set()},
        )
    yield _Packet(
        "containers asking for names",
        "input",
        {
            **out,
            "meta oifname": None,
            "ip daddr": zone.gateway,
            "meta l4proto": "udp",
            "udp dport": 53,
            "th dport": 53,
            "ip protocol": "udp",
            "ct status": set(),
        },
    )


def _walk(table: Table, chain: str, packet: _Packet, depth: int) -> _Verdict:
    """Return what *chain* says to *packet*; ``return`` means nothing."""
    certain = depth < LONGEST_PATH
    for expressions in table.rules.get(chain, ()) if certain else ():
        met = _met(table, expressions, packet)
        if met is False:
            continue
        for expression in expressions:
            ((kind, given),) = expression.items()
            if kind in ("jump", "goto"):
                verdict = _walk(table, given["target"], packet, depth + 1)
                if met is None:
                    certain = False
                elif verdict.word != "return" or kind == "goto":
                    return _Verdict(verdict.word, certain and verdict.certain, verdict.why)
                else:
                    certain = certain and verdict.certain
            elif kind in ("drop", "reject") and met:
                return _Verdict("drop", certain, f"rule of chain {chain}: {kind}")
            elif kind in ("accept", "return", "queue", "vmap", "xt"):
                if met and kind in ("accept", "return"):
                    return _Verdict(kind, certain)
                certain = False
    return _Verdict("return", certain)


def _met(table: Table, expressions: list[dict[str, Any]], packet: _Packet) -> bool | None:
    """Return whether all conditions hold; None if one cannot be judged and none fails."""
    result: bool | None = True
    for expression in expressions:
        ((kind, given),) = expression.items()
        if kind == "match":
            one = _match(table, given, packet)
        elif kind in ("limit", "xt", "vmap"):
            one = None
        else:
            continue
        if one is False:
            return False
        if one is None:
            result = None
    return result


def _match(table: Table, given: dict[str, Any], packet: _Packet) -> bool | None:
    left = field_name(given["left"])
    if left not in packet.facts:
        return None
    fact = packet.facts[left]
    choices = table.choices(given["right"])
    if choices is None:
        return None
    if isinstance(fact, set):
        hit = any(choice in fact for choice in choices)
    else:
        answers = [_equal(fact, choice) for choice in choices]
        if None in answers and True not in answers:
            return None
        hit = True in answers
    negated: bool = given["op"] == "!="
    return hit != negated


def _equal(fact: Any, choice: Any) -> bool | None:
    if isinstance(choice, dict) and "elem" in choice:
        choice = choice["elem"]["val"]
    if isinstance(choice, dict) and "prefix" in choice:
        subnet = f"{choice['prefix']['addr']}/{choice['prefix']['len']}"
        return ipaddress.IPv4Address(fact) in ipaddress.IPv4Network(subnet, strict=False)
    if isinstance(choice, dict) and "range" in choice and isinstance(fact, int):
        low, high = choice["range"]
        return bool(low <= fact <= high)
    if isinstance(choice, dict) or fact == _UPLINK:
        return None
    if isinstance(choice, str) and choice.endswith("*") and isinstance(fact, str):
        return fact.startswith(choice[:-1])
    return bool(fact == choice)


def _legacy() -> Iterator[Obstacle]:
    """Rules of the old iptables cannot be seen through nft: say so where there are any."""
    try:
        with open(_LEGACY, encoding="ascii") as file:
            names = file.read().split()
    except (FileNotFoundError, PermissionError):
        # Of a user's own network namespace nobody may read that, and nobody made such rules.
        return
    if "filter" in names:
        yield Obstacle(
            table="legacy iptables filter",
            chain="FORWARD",
            why="rules of legacy iptables cannot be read with nft",
            traffic="all",
            how_to_allow=("iptables-legacy -S FORWARD", "iptables-legacy -P FORWARD ACCEPT"),
            certain=False,
        )


def _uplinks(netlink: Netlink) -> tuple[str, ...]:
    """Return the names of the links default routes go through."""
    indices = {r.index for r in rtnetlink.routes(netlink) if r.destination == "0.0.0.0/0"}
    links = [rtnetlink.get_link(netlink, index) for index in sorted(indices)]
    return tuple(link.name for link in links if link is not None) or (_UPLINK,)


def _bridged_packets_are_filtered() -> bool:
    try:
        with open(_BRIDGE_CALLS, encoding="ascii") as file:
            return file.read().strip() == "1"
    except FileNotFoundError:
        return False


def _example(root: Root) -> Zone:
    """A network as it would be: what is checked before the first one is made."""
    return Zone(f"{root.link_prefix}n1", "10.72.0.0/24", "10.72.0.1", internal=False)
