"""Parts of a project: ``-l SELECTOR`` and ``--only KIND/NAME``.

A selection keeps what was chosen and everything that needs to exist for it: the closure of its
dependencies, ``dependsOn`` included, as what is already right costs nothing to keep. Dependents
are left out. A selection is partial and never prunes.
"""

import dataclasses
import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence

from provider.errors import UsageError
from provider.manifest.fingerprint import desired_fingerprint
from provider.model.ids import Kind, ResourceId
from provider.model.resource import Desired, Resource
from runtime.record import dataclass

Predicate = Callable[[Mapping[str, str]], bool]

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9_./-]*[A-Za-z0-9])?"
_VALUE = r"[A-Za-z0-9_.-]*"
_SET = re.compile(rf"({_LABEL})\s+(in|notin)\s*\(([^()]*)\)\Z")
_EQUAL = re.compile(rf"({_LABEL})\s*(==|=|!=)\s*({_VALUE})\Z")
_EXISTS = re.compile(rf"(!?)\s*({_LABEL})\Z")


@dataclass(frozen=True, slots=True)
class Selection:
    """Part of what is wanted."""

    desired: Desired
    """The chosen resources and what they need, in dependency order."""
    chosen: frozenset[ResourceId]
    """What was asked for by name or label, without the dependencies."""
    partial: bool = True
    """False if nothing was selected and *desired* is the whole."""
    warnings: tuple[str, ...] = ()


def select(desired: Desired, *, selector: str = "", only: Sequence[str] = ()) -> Selection:
    """Return the part of *desired* that *selector* and *only* name.

    Both given, a resource must satisfy both; several *only* add up. A pattern is
    ``KIND/NAME``; the kind in any case, the name with ``*``, ``?`` and ``[...]``.

    Raises:
        UsageError: a selector that cannot be read, or a pattern that matches nothing.
    """
    if not selector.strip() and not only:
        everything = frozenset(r.id for r in desired.resources)
        return Selection(desired, everything, partial=False)
    matches = parse_selector(selector)
    named = _named(desired.resources, only) if only else None
    chosen = frozenset(
        r.id for r in desired.resources if matches(r.labels) and (named is None or r.id in named)
    )
    keep = _closure(desired, chosen)
    resources = tuple(r for r in desired.resources if r.id in keep)
    part = dataclasses.replace(
        desired,
        resources=resources,
        prune=False,
        fingerprint=desired_fingerprint(desired.project, resources, prune=False),
        secrets={i: values for i, values in desired.secrets.items() if i in keep},
    )
    warnings = () if chosen else (_no_match(selector, only),)
    return Selection(part, chosen, warnings=warnings)


def _no_match(selector: str, only: Sequence[str]) -> str:
    among = f" among {', '.join(only)}" if only else ""
    return f"nothing in the manifests matches -l {selector!r}{among}"


def parse_selector(text: str) -> Predicate:
    """Return the test on labels that *text* describes, as in kubectl.

    Comma means and: ``k=v``, ``k==v``, ``k!=v`` (also true without k), ``k in (a,b)``,
    ``k notin (a,b)`` (also true without k), ``k``, ``!k``. Empty text is true for everything.

    Raises:
        UsageError: *text* cannot be read.
    """
    parts = [part.strip() for part in re.split(r",(?![^(]*\))", text)] if text.strip() else []
    tests = [_requirement(part) for part in parts]
    return lambda labels: all(test(labels) for test in tests)


def _requirement(part: str) -> Predicate:
    if match := _SET.match(part):
        key, values = match[1], {value.strip() for value in match[3].split(",")}
        if match[2] == "in":
            return lambda labels: key in labels and labels[key] in values
        return lambda labels: labels.get(key) not in values
    if match := _EQUAL.match(part):
        key, value = match[1], match[3]
        if match[2] == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if match := _EXISTS.match(part):
        key, wanted = match[2], not match[1]
        return lambda labels: (key in labels) is wanted
    raise UsageError(
        f"cannot read selector {part!r}",
        hint="write k=v, k!=v, k in (a,b), k notin (a,b), k or !k, joined with commas",
    )


def _named(resources: Sequence[Resource], patterns: Sequence[str]) -> frozenset[ResourceId]:
    from provider.manifest.suggest import did_you_mean  # Imports difflib, for errors only.

    kinds: dict[str, Kind] = {kind.lower(): kind for kind in Kind}
    named: set[ResourceId] = set()
    for pattern in patterns:
        word, slash, name = pattern.partition("/")
        kind = kinds.get(word.lower())
        if kind is None or not slash or not name:
            meant = did_you_mean(word, kinds.values()) if kind is None else ""
            called = [str(r.id) for r in resources if not slash and r.id.name == word]
            hint = f"did you mean {' or '.join(called)}?" if called else meant
            raise UsageError(f"not KIND/NAME: {pattern!r}", hint=hint)
        found = [
            r.id for r in resources if r.id.kind is kind and fnmatch.fnmatchcase(r.id.name, name)
        ]
        if not found:
            meant = did_you_mean(f"{kind}/{name}", (str(r.id) for r in resources))
            raise UsageError(f"nothing in the manifests is {kind}/{name}", hint=meant)
        named.update(found)
    return frozenset(named)


def jobs(desired: Desired, chosen: Desired, names: Sequence[str]) -> frozenset[str]:
    """Return the names of Jobs, *chosen* of those *desired*, meant by *names*: NAME or Job/NAME.

    Raises:
        UsageError: there is none of that name, or it was not chosen.
    """
    from provider.manifest.suggest import did_you_mean

    known = {r.id.name for r in desired.resources if r.id.kind is Kind.JOB}
    part = {r.id.name for r in chosen.resources if r.id.kind is Kind.JOB}
    found = set()
    for text in names:
        kind, slash, name = text.rpartition("/")
        if (slash and kind.lower() != Kind.JOB.lower()) or name not in known:
            there = f"there are {', '.join(sorted(known))}" if known else "there are no Jobs"
            hint = did_you_mean(name, known) or there
            raise UsageError(f"no Job is called {text!r}", hint=hint)
        if name not in part:
            raise UsageError(f"Job/{name} is no part of this run", hint="name it with --only too")
        found.add(name)
    return frozenset(found)


def _closure(desired: Desired, chosen: frozenset[ResourceId]) -> set[ResourceId]:
    by_id = {resource.id: resource for resource in desired.resources}
    keep: set[ResourceId] = set()
    stack = list(chosen)
    while stack:
        current = stack.pop()
        if current in keep or current not in by_id:
            continue
        keep.add(current)
        stack.extend(edge.target for edge in by_id[current].dependencies)
    return keep
