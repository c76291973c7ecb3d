"""What our nft table should hold, and the scripts that bring it there. Pure.

Packets and the rules that decide on them:

* to a published port, from outside or another network: ``prerouting`` looks protocol and port up
  in the map ``published`` (or, bound to one address, ``published_at``), whose verdict goes to the
  publication's own chain, which picks a backend;
* the same from the host itself: ``output``;
* from localhost, or back into the network it came from: ``postrouting`` puts the bridge's address
  in place of the sender's, or the answer would not come back this way;
* between networks, and into a network unless published: ``forward`` drops;
* to 127.0.0.0/8 from a bridge: ``raw`` drops. The bridges have ``route_localnet``, which localhost
  publishing needs and which would else open the host's own localhost (CVE-2020-8558). From other
  links ``prerouting`` leaves such packets alone, and the kernel drops them as martians: rewriting
  them would open ports published on 127.0.0.1 to neighbours.

Source: nft(8).
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from runtime.network.model import ANY_ADDRESS, Publication
from runtime.record import dataclass, field

PUBLISHED = "published"
PUBLISHED_AT = "published_at"
_PLAIN = re.compile(r"[A-Za-z0-9/_.-]{1,100}")


@dataclass(frozen=True, slots=True)
class Zone:
    """What the firewall must know of a network."""

    bridge: str
    subnet: str
    gateway: str
    internal: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """Everything the table is made from."""

    zones: Mapping[str, Zone] = field(default_factory=dict)
    """By network id."""
    publications: Mapping[str, tuple[Publication, ...]] = field(default_factory=dict)
    """By owner."""
    resting: frozenset[str] = frozenset()
    """Addresses of backends that are down: nothing new goes to them while another one is up."""

    def serving(self, publication: Publication) -> tuple[tuple[str, int], ...]:
        """Return the backends that new connections go to: all of them if all are resting."""
        awake = tuple(b for b in publication.backends if b[0] not in self.resting)
        return awake or publication.backends


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule and, as its comment in the kernel, what it is good for."""

    text: str
    purpose: str

    def __str__(self) -> str:
        return f'{self.text} comment "{self.purpose}"'


@dataclass(frozen=True, slots=True)
class Chain:
    """*hook* is empty for a chain that is only gone to."""

    rules: tuple[Rule, ...]
    hook: str = ""


@dataclass(frozen=True, slots=True)
class Set:
    """A set, or with *is_map* a map; *elements* maps each key to its verdict or to nothing."""

    type: str
    elements: Mapping[str, str]
    is_map: bool = False
    interval: bool = False

    @property
    def keyword(self) -> str:
        """As nft calls it."""
        return "map" if self.is_map else "set"


@dataclass(frozen=True, slots=True)
class Ruleset:
    """The whole table."""

    table: str
    sets: Mapping[str, Set]
    chains: Mapping[str, Chain]


def build(
    table: str, wanted: Wanted, *, arrivals: Callable[[str], Iterable[str]] = lambda ip: (ip,)
) -> Ruleset:
    """Return the table for what is wanted.

    *arrivals* tells to which addresses here packets come that are meant for one of the host.
    """
    # In one order, so that equal wants give equal scripts.
    zones = [zone for _, zone in sorted(wanted.zones.items())]
    published: dict[str, str] = {}
    published_at: dict[str, str] = {}
    chains = _base_chains()
    for owner, publications in sorted(wanted.publications.items()):
        for publication in publications:
            if not publication.backends:
                continue
            name = chain_name(owner, publication)
            rule = _balance(owner, publication, wanted.serving(publication))
            chains[name] = Chain((rule,))
            key = f"{publication.protocol} . {publication.port}"
            if publication.ip == ANY_ADDRESS:
                published[key] = f"goto {name}"
            else:
                for ip in arrivals(publication.ip):
                    published_at[f"{ip} . {key}"] = f"goto {name}"
    sets = {
        "bridges": Set("ifname", _keys(quote(z.bridge) for z in zones)),
        "internal": Set("ifname", _keys(quote(z.bridge) for z in zones if z.internal)),
        "inside": Set(
            "ifname . ifname", _keys(f"{quote(z.bridge)} . {quote(z.bridge)}" for z in zones)
        ),
        "gateways": Set("ipv4_addr", _keys(z.gateway for z in zones)),
        "subnets": Set(
            "ipv4_addr", _keys(z.subnet for z in zones if not z.internal), interval=True
        ),
        "own": Set(
            "ipv4_addr . ifname",
            _keys(f"{z.subnet} . {quote(z.bridge)}" for z in zones),
            interval=True,
        ),
        PUBLISHED: Set("inet_proto . inet_service", published, is_map=True),
        PUBLISHED_AT: Set("ipv4_addr . inet_proto . inet_service", published_at, is_map=True),
    }
    return Ruleset(table, sets, chains)


def chain_name(owner: str, publication: Publication) -> str:
    """Return the name of the chain that balances a publication; readable where nft allows."""
    where = "" if publication.ip == ANY_ADDRESS else f"/{publication.ip}"
    return f"pub/{plain(owner)}/{publication.protocol}{where}/{publication.port}"


def plain(owner: str) -> str:
    """Return *owner* as nft identifiers and comments may hold it; distinct owners stay distinct."""
    if _PLAIN.fullmatch(owner):
        return owner
    digest = hashlib.sha256(owner.encode()).hexdigest()[:12]
    return re.sub(r"[^A-Za-z0-9/_.-]", "_", owner[:80]) + "-" + digest


def full_script(ruleset: Ruleset) -> str:
    """Return the script that replaces the table, whatever it held, in one transaction."""
    return "\n".join((*_drop(ruleset.table), *_make(ruleset))) + "\n"


def delete_script(table: str) -> str:
    """Return the script that removes the table; absent is fine."""
    return "\n".join(_drop(table)) + "\n"


def delta_script(old: Ruleset, new: Ruleset) -> str:
    """Return the script that turns *old* into *new* in one transaction; empty if they are equal.

    Sets and base chains are the same in both; what differs is elements and publications' chains.
    """
    table = new.table
    lines = [f"add chain inet {table} {name}" for name in new.chains if name not in old.chains]
    for name, now in new.sets.items():
        before = old.sets[name].elements
        gone = [key for key, verdict in before.items() if now.elements.get(key) != verdict]
        if gone:
            lines.append(f"delete element inet {table} {name} {{ {', '.join(gone)} }}")
    for name, chain in new.chains.items():
        if name not in old.chains or old.chains[name] != chain:
            lines.append(f"flush chain inet {table} {name}")
            lines += [f"add rule inet {table} {name} {rule}" for rule in chain.rules]
    for name, now in new.sets.items():
        before = old.sets[name].elements
        added = {
            key: verdict for key, verdict in now.elements.items() if before.get(key) != verdict
        }
        if added:
            lines.append(f"add element inet {table} {name} {{ {_elements(added)} }}")
    for name in old.chains:
        if name not in new.chains:
            lines += [f"flush chain inet {table} {name}", f"delete chain inet {table} {name}"]
    return "\n".join(lines) + "\n" if lines else ""


def quote(name: str) -> str:
    """Return an interface name as nft writes it."""
    return f'"{name}"'


def _base_chains() -> dict[str, Chain]:
    dispatch = (
        Rule(
            f"meta l4proto {{ tcp, udp }} ip daddr . meta l4proto . th dport vmap @{PUBLISHED_AT}",
            "ports published on one address of the host",
        ),
        Rule(
            f"meta l4proto {{ tcp, udp }} fib daddr type local "
            f"meta l4proto . th dport vmap @{PUBLISHED}",
            "ports published on all addresses of the host",
        ),
    )
    return {
        "raw": Chain(
            (
                Rule(
                    "iifname @bridges ip daddr 127.0.0.0/8 drop",
                    "containers do not reach the localhost of the host",
                ),
                Rule(
                    "iifname @bridges ip saddr 127.0.0.0/8 drop",
                    "containers do not pose as the localhost of the host",
                ),
            ),
            "type filter hook prerouting priority raw; policy accept;",
        ),
        "prerouting": Chain(
            (
                Rule(
                    'iifname != "lo" ip daddr 127.0.0.0/8 return',
                    "ports published on localhost stay on localhost",
                ),
                *dispatch,
            ),
            "type nat hook prerouting priority dstnat; policy accept;",
        ),
        "output": Chain(dispatch, "type nat hook output priority -100; policy accept;"),
        "input": Chain(
            (
                Rule("iifname != @internal accept", "only internal networks are limited here"),
                Rule("ct state established,related accept", "answers"),
                Rule(
                    "ip daddr @gateways meta l4proto { tcp, udp } th dport 53 accept",
                    "internal networks resolve names",
                ),
                Rule("icmp type echo-request accept", "internal networks can ping the gateway"),
                Rule("drop", "internal networks do not reach the host"),
            ),
            "type filter hook input priority filter; policy accept;",
        ),
        "forward": Chain(
            (
                Rule("iifname != @bridges oifname != @bridges accept", "traffic of others"),
                Rule("ct state established,related accept", "answers"),
                Rule("iifname . oifname @inside accept", "containers of one network"),
                Rule("iifname @internal drop", "no way out of internal networks"),
                Rule("oifname @internal drop", "no way into internal networks"),
                Rule("ct status dnat accept", "published ports are open"),
                Rule("oifname @bridges drop", "networks are closed to each other and to outside"),
            ),
            "type filter hook forward priority filter; policy accept;",
        ),
        "postrouting": Chain(
            (
                Rule(
                    "ip saddr 127.0.0.0/8 oifname @bridges masquerade",
                    "localhost reaches published ports",
                ),
                Rule(
                    "ip saddr . oifname @own ct status dnat masquerade",
                    "a network reaches its own published ports",
                ),
                Rule(
                    "ip saddr @subnets oifname != @bridges masquerade",
                    "containers reach the outside",
                ),
            ),
            "type nat hook postrouting priority srcnat; policy accept;",
        ),
    }


def _balance(owner: str, publication: Publication, serving: Sequence[tuple[str, int]]) -> Rule:
    if len(serving) == 1:
        ip, port = serving[0]
        target = f"{ip}:{port}"
    else:
        choices = ", ".join(f"{n} : {ip} . {port}" for n, (ip, port) in enumerate(serving))
        target = f"numgen inc mod {len(serving)} map {{ {choices} }}"
    return Rule(f"meta l4proto {publication.protocol} dnat ip to {target}", plain(owner))


def _drop(table: str) -> Iterator[str]:
    # Deleting what is not there is an error; adding what is there is none.
    yield f"add table inet {table}"
    yield f"delete table inet {table}"


def _make(ruleset: Ruleset) -> Iterator[str]:
    yield f"table inet {ruleset.table} {{"
    for name, holder in ruleset.sets.items():
        yield f"  {holder.keyword} {name} {{"
        yield f"    type {holder.type}{' : verdict' if holder.is_map else ''};"
        if holder.interval:
            yield "    flags interval;"
        # A verdict can only name a chain that is there already: elements of maps come last.
        if holder.elements and not holder.is_map:
            yield f"    elements = {{ {_elements(holder.elements)} }}"
        yield "  }"
    for name, chain in ruleset.chains.items():
        yield f"  chain {name} {{"
        if chain.hook:
            yield f"    {chain.hook}"
        for rule in chain.rules:
            yield f"    {rule}"
        yield "  }"
    yield "}"
    for name, holder in ruleset.sets.items():
        if holder.elements and holder.is_map:
            yield f"add element inet {ruleset.table} {name} {{ {_elements(holder.elements)} }}"


def _elements(elements: Mapping[str, str]) -> str:
    return ", ".join(f"{key} : {verdict}" if verdict else key for key, verdict in elements.items())


def _keys(keys: Iterable[str]) -> dict[str, str]:
    return dict.fromkeys(keys, "")
