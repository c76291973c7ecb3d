"""Compare the nft table in the kernel with what it should be, and name each cause."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from runtime.documents import read_note
from runtime.kernel.nfnetlink import open_netfilter, ruleset_generation
from runtime.network import mark, nft
from runtime.network.deviation import Deviation
from runtime.network.files import write_note
from runtime.network.hostports import ruleset_of
from runtime.network.model import Publication
from runtime.network.ruleset import (
    PUBLISHED,
    PUBLISHED_AT,
    Ruleset,
    Wanted,
    chain_name,
    full_script,
)
from runtime.record import dataclass
from runtime.root import Root

CODES = frozenset(
    {
        "table-gone",
        "table-flushed",
        "table-changed",
        "table-left",
        "chain-gone",
        "chain-changed",
        "chain-added",
        "rule-removed",
        "rule-added",
        "rules-reordered",
        "set-gone",
        "set-changed",
        "set-added",
        "element-removed",
        "element-added",
    }
)
"""Of the deviations found here; reloading the table mends all of them."""

Json = Mapping[str, Any]


@dataclass(frozen=True)
class _Contents:
    """A listing taken apart: everything but handles, by name."""

    table: Json
    chains: Mapping[str, Json]
    rules: Mapping[str, tuple[str, ...]]
    sets: Mapping[str, Json]
    elements: Mapping[str, frozenset[str]]


def check(root: Root, target: Wanted) -> tuple[Deviation, ...]:
    """Return how the kernel's table differs from *target*; nothing is mended.

    Reads one number if the ruleset is as at the last verified reading, else the whole table.
    """
    if target == Wanted():
        return _leftover(root)
    with open_netfilter() as netlink:
        before = ruleset_generation(netlink)
        if mark.is_verified(root, target, before):
            return ()
        listing = nft.list_table(root.nft_table)
        ruleset = ruleset_of(root, target)
        found = compare(ruleset, target, _pristine(root, ruleset), listing)
        if not found and ruleset_generation(netlink) == before:
            mark.verified(root, target, before)
    return found


def compare(
    ruleset: Ruleset, target: Wanted, pristine: nft.Listing, listing: nft.Listing | None
) -> tuple[Deviation, ...]:
    """Return the differences of *listing* to *pristine*, both of *ruleset*; pure."""
    if listing is None:
        return (_lost("table-gone", f"nft table {ruleset.table} is gone (deleted)", target),)
    expected, actual = _take_apart(pristine), _take_apart(listing)
    if expected.rules and not any(actual.rules.values()) and actual.chains:
        text = f"nft table {ruleset.table} is flushed (all rules removed)"
        return (_lost("table-flushed", text, target),)
    return tuple(_differences(ruleset, target, expected, actual))


def _differences(
    ruleset: Ruleset, target: Wanted, expected: _Contents, actual: _Contents
) -> Iterator[Deviation]:
    table = ruleset.table
    if expected.table != actual.table:
        # What the flags are is not said: nft 1.0.6 lists them wrongly as JSON.
        text = f"nft table {table} has flags set (dormant: asleep)"
        yield _lost("table-changed", text, target)
    lost_chains = set()
    published = _publications(target)
    for name in expected.chains:
        if name not in actual.chains:
            lost_chains.add(name)
            yield _concerning(
                "chain-gone", f"chain {name} of nft table {table} is gone", published.get(name)
            )
        elif expected.chains[name] != actual.chains[name]:
            yield Deviation("chain-changed", f"chain {name} of nft table {table} is changed")
    for name in actual.chains.keys() - expected.chains.keys():
        yield Deviation("chain-added", f"chain {name} in nft table {table} is not ours")
    for name in sorted(expected.chains.keys() & actual.chains.keys()):
        yield from _rules(
            name,
            expected.rules.get(name, ()),
            actual.rules.get(name, ()),
            published.get(name),
        )
    yield from _sets(table, expected, actual, published, lost_chains)


def _rules(
    chain: str,
    expected: tuple[str, ...],
    actual: tuple[str, ...],
    publication: tuple[str, Publication] | None,
) -> Iterator[Deviation]:
    removed, added = Counter(expected) - Counter(actual), Counter(actual) - Counter(expected)
    for rule in removed:
        purpose = json.loads(rule).get("comment", "")
        deviation = _concerning(
            "rule-removed", f"rule removed from chain {chain}: {purpose}", publication
        )
        yield deviation if publication else replace(deviation, consequences=(f"lost: {purpose}",))
    for rule in added:
        expression = json.dumps(json.loads(rule)["expr"])
        yield Deviation("rule-added", f"rule added to chain {chain}: {expression}")
    if not removed and not added and expected != actual:
        yield Deviation("rules-reordered", f"rules of chain {chain} are in another order")


def _sets(
    table: str,
    expected: _Contents,
    actual: _Contents,
    published: Mapping[str, tuple[str, Publication]],
    lost_chains: set[str],
) -> Iterator[Deviation]:
    for name in expected.sets:
        if name not in actual.sets:
            yield Deviation("set-gone", f"set {name} of nft table {table} is gone")
            continue
        if expected.sets[name] != actual.sets[name]:
            yield Deviation("set-changed", f"set {name} of nft table {table} is changed")
        kind = "map" if name in (PUBLISHED, PUBLISHED_AT) else "set"
        for element in sorted(expected.elements[name] - actual.elements[name]):
            target = _target(element)
            if target in lost_chains:
                continue  # a chain cannot be deleted before the elements that go to it
            text = f"element {_words(element)} removed from {kind} {name}"
            yield _concerning("element-removed", text, published.get(target))
        for element in sorted(actual.elements[name] - expected.elements[name]):
            yield Deviation("element-added", f"element {_words(element)} added to {kind} {name}")
    for name in actual.sets.keys() - expected.sets.keys():
        yield Deviation("set-added", f"set {name} in nft table {table} is not ours")


def _lost(code: str, text: str, target: Wanted) -> Deviation:
    ports = tuple(_closed(owner, port) for owner, port in _publications(target).values())
    return Deviation(
        code,
        text,
        consequences=("containers do not reach the outside", "networks are not isolated", *ports),
        owners=tuple(target.publications),
    )


def _concerning(code: str, text: str, publication: tuple[str, Publication] | None) -> Deviation:
    if publication is None:
        return Deviation(code, text)
    owner, port = publication
    return Deviation(code, text, owner=owner, owners=(owner,), consequences=(_closed(owner, port),))


def _closed(owner: str, publication: Publication) -> str:
    return f"port {publication} of {owner} is closed"


def _publications(target: Wanted) -> dict[str, tuple[str, Publication]]:
    return {
        chain_name(owner, publication): (owner, publication)
        for owner, publications in target.publications.items()
        for publication in publications
        if publication.backends
    }


def _take_apart(listing: nft.Listing) -> _Contents:
    table: Json = {}
    chains: dict[str, Json] = {}
    rules: dict[str, tuple[str, ...]] = {}
    sets: dict[str, Json] = {}
    elements: dict[str, frozenset[str]] = {}
    for entry in listing:
        ((kind, given),) = entry.items()
        plain = {key: value for key, value in given.items() if key != "handle"}
        if kind == "table":
            table = plain
        elif kind == "chain":
            chains[plain["name"]] = plain
        elif kind == "rule":
            chain = plain["chain"]
            rules[chain] = (*rules.get(chain, ()), _text(plain))
        elif kind in ("set", "map"):
            name = plain["name"]
            elements[name] = frozenset(map(_text, plain.pop("elem", ())))
            sets[name] = plain
    return _Contents(table, chains, rules, sets, elements)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _target(element: str) -> str:
    value = json.loads(element)
    if isinstance(value, list) and isinstance(value[-1], dict):
        verdict = value[-1].get("goto") or {}
        return str(verdict.get("target", ""))
    return ""


def _words(element: str) -> str:
    value = json.loads(element)
    return _spell(value[0]) if isinstance(value, list) else _spell(value)


def _spell(value: Any) -> str:
    if isinstance(value, dict) and "concat" in value:
        return " . ".join(map(_spell, value["concat"]))
    if isinstance(value, dict) and "prefix" in value:
        return f"{value['prefix']['addr']}/{value['prefix']['len']}"
    return str(value)


def _leftover(root: Root) -> tuple[Deviation, ...]:
    if not (root.state / "networks").is_dir() or ("inet", root.nft_table) not in nft.tables():
        return ()
    return (Deviation("table-left", f"nft table {root.nft_table} is there without any network"),)


def _pristine(root: Root, ruleset: Ruleset) -> nft.Listing:
    script = full_script(ruleset)
    key = hashlib.sha256(f"{nft.version_key()}\n{script}".encode()).hexdigest()
    path = root.run / "firewall-pristine.json"
    cached = read_note(path)
    if cached is not None and cached["key"] == key:
        listing: nft.Listing = cached["listing"]
        return listing
    listing = nft.pristine(script, ruleset.table)
    write_note(path, {"key": key, "listing": listing})
    return listing
