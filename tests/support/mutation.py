"""Documents as nobody writes them: a good one with a few of its values changed at random."""

from __future__ import annotations

import json
import random
from typing import Any


def nested(depth: int) -> Any:
    """Return lists in lists."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


_DEEP = nested(700)

# What a value may turn into, whatever it was.
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 1.5, 1e400, 2**31, 2**32, 2**63, 2**64, 10**30),
    *("", " ", "x", "\0", "a\0b", "\n", "\ud800", "é", "..", "/", "//", "/proc/self", "-1", "max"),
    *(
        "x" * 300,
        "x/" * 3000,
        "%s%n",
        [],
        [None],
        [[]],
        [""],
        {},
        {"": None},
        {"x": {"x": []}},
        _DEEP,
    ),
)


def mutated(document: Any, chance: random.Random, keep: frozenset[str] = frozenset()) -> Any:
    """Return a copy of a JSON *document* with one to three changes; values of *keep* stay."""
    changed = _copy(document)
    for _ in range(chance.randint(1, 3)):
        places = list(_places(changed, keep))
        if places:
            _change(*chance.choice(places), chance)
    return changed


def _copy(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _places(value: Any, keep: frozenset[str]) -> Any:
    """Yield each container of values with a key of it."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, member in list(items):
        if key in keep:
            continue
        yield value, key
        if isinstance(member, dict | list) and member != _DEEP:
            yield from _places(member, keep)


def _change(owner: Any, key: Any, chance: random.Random) -> None:
    what = chance.choice(("replace", "replace", "replace", "remove", "double", "add", "move"))
    if what == "remove":
        del owner[key]
    elif what == "double" and isinstance(owner, list):
        owner.insert(chance.randrange(len(owner) + 1), _copy(owner[key]))
    elif what == "add" and isinstance(owner[key], dict):
        owner[key][chance.choice(("unknown", "", "path", "type"))] = chance.choice(_VALUES)
    elif what == "move":
        other = chance.choice(list(owner) if isinstance(owner, dict) else range(len(owner)))
        owner[key] = _copy(owner[other])
    else:
        owner[key] = _copy(chance.choice(_VALUES))
