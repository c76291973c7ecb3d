"""The nft tables of others, taken apart as far as we have to understand them. Read-only."""

from collections.abc import Iterator
from typing import Any

from runtime.network import nft
from runtime.record import dataclass, field

LONGEST_PATH = 64
"""So many chains that jump to each other are followed."""

_FAMILIES = ("ip", "inet")


@dataclass(frozen=True)
class Table:
    """The listing of one foreign table that sees IPv4."""

    family: str
    name: str
    chains: dict[str, dict[str, Any]] = field(default_factory=dict)
    rules: dict[str, list[list[dict[str, Any]]]] = field(default_factory=dict)
    """By chain: each rule is a list of expressions, as in libnftables-json(5)."""
    sets: dict[str, list[Any]] = field(default_factory=dict)
    """Elements of sets and maps."""

    def __str__(self) -> str:
        return f"{self.family} {self.name}"

    def choices(self, right: Any) -> list[Any] | None:
        """Return what the right side of a match allows; None: a set that is not here."""
        if isinstance(right, str) and right.startswith("@"):
            return self.sets.get(right[1:])
        if isinstance(right, dict) and "set" in right:
            members = right["set"]
            return members if isinstance(members, list) else [members]
        return right if isinstance(right, list) else [right]


def tables(own: str) -> Iterator[Table]:
    """Yield all tables but the one of ours called *own*.

    Raises:
        UnsupportedHostError: there is no nft.
        NetworkError: nft refused.
    """
    for family, name in nft.tables():
        if family not in _FAMILIES or (family, name) == ("inet", own):
            continue
        table = Table(family, name)
        for entry in nft.list_table(name, family) or ():
            ((kind, given),) = entry.items()
            if kind == "chain":
                table.chains[given["name"]] = given
            elif kind == "rule":
                table.rules.setdefault(given["chain"], []).append(given["expr"])
            elif kind in ("set", "map"):
                table.sets[given["name"]] = given.get("elem", [])
        yield table


def field_name(left: Any) -> str:
    """Return what a match looks at, ``ip daddr``, ``meta iifname``; empty: something else."""
    if not isinstance(left, dict) or len(left) != 1:
        return ""
    ((kind, given),) = left.items()
    if kind == "payload" and "field" in given:
        return f"{given['protocol']} {given['field']}"
    if kind in ("meta", "ct") and "dir" not in given:
        key = {"iif": "iifname", "oif": "oifname"}.get(given["key"], given["key"])
        return f"{kind} {key}"
    return ""
