"""From two trees to the changes people read: rule, origin and provenance of each. Pure."""

import re
from collections.abc import Iterable
from typing import Any

from provider.errors import Origin
from provider.manifest.provenance import ancestors, place
from provider.model.ids import Kind
from provider.model.plan import Change, Consequence
from provider.model.resource import Deviation, Resource
from provider.model.tree import Tree
from provider.planning.diff import differences
from provider.planning.rename import Renaming
from provider.planning.rules import SENSITIVE, consequence_of
from runtime.record import dataclass

HIDDEN = "(sensitive)"
"""Stands for what is never shown (schemas/report.json)."""

_CAUSES = {
    "container.image.digest": "its image changes",
    "container.networks.*.id": "a network of it is made anew",
    "container.volumes.*.id": "a volume of it is made anew",
    "container.configs.*.fingerprint": "content of a config changed",
    "container.secrets.*.fingerprint": "content of a secret changed",
    "container.env.*.fingerprint": "content of a secret changed",
    "dependsOn.*.restartWith": "a dependency restarts",
    "dependsOn.*.recreateWith": "a dependency is made anew",
    "backends.*": "its replicas change",
    "backends.*.id": "its replicas change",
    "inputs.*": "its source changed",
}
_KEY = r"(?:\.[^.\[]+|\[.*\])"  # of a map's entry or a list's item: a word, or in brackets
_DERIVED = re.compile(
    r"(?:backends|inputs)(?:$|[.\[])|container\.image\.digest$"
    rf"|container\.(?:networks|volumes){_KEY}\.id$"
    rf"|container\.(?:env|configs|secrets){_KEY}\.fingerprint$"
    rf"|dependsOn{_KEY}\.(?:restartWith|recreateWith)$"
)
"""Paths of what follows from others; the same names elsewhere are people's own words."""
_MANIFEST = "the manifest changed"


@dataclass(frozen=True, slots=True)
class Sources:
    """Who says what a tree holds: the resource's text, or its image."""

    resource: Resource
    from_image: frozenset[str] = frozenset()
    ports: bool = False
    """The tree is of a Service's published ports."""

    def of(self, path: str) -> tuple[Origin | None, str]:
        """Return where *path* was written, if it was, and ``manifest|overlay|image|default``.

        Nobody says what follows from other resources: ids, digests, fingerprints.
        """
        if path in self.from_image:
            return None, "image"
        if is_derived(path):
            return place(self.resource.provenance, path, self.resource.origin), ""
        written = self.resource.provenance
        nearest = next((p for p in ancestors(path) if p in written), None)
        if nearest is None or (nearest != path and _has_members(nearest, written)):
            return place(written, path, self.resource.origin), "default"
        origin = written[nearest]
        return origin, "overlay" if origin.note.startswith("overlay") else "manifest"

    def record(self) -> dict[str, str]:
        """Return what goes into the ledger: path -> file:line, or ``image``; else default."""
        written = {path: str(origin) for path, origin in self.resource.provenance.items()}
        return written | dict.fromkeys(self.from_image, "image")


def changes_between(
    before: Tree, after: Tree, sources: Sources
) -> tuple[tuple[Change, ...], tuple[str, ...]]:
    """Return the changes from *before* to *after*, and the reasons for them, in words."""
    kind = sources.resource.id.kind
    changes, reasons = [], dict[str, None]()
    for found in differences(before, after):
        origin, provenance = sources.of(found.path)
        sensitive = (
            found.pattern in SENSITIVE.get(kind, ())
            or is_fingerprint(found.before)
            or is_fingerprint(found.after)
        )
        changes.append(
            Change(
                path=found.path,
                before=mask(found.before, sensitive),
                after=mask(found.after, sensitive),
                consequence=consequence_of(kind, found.pattern, ports=sources.ports),
                sensitive=sensitive,
                origin=origin,
                provenance=provenance,
            )
        )
        reasons[_CAUSES.get(found.pattern, _MANIFEST)] = None
    return tuple(changes), tuple(reasons)


def renaming_changes(renamings: Iterable[Renaming], sources: Sources) -> tuple[Change, ...]:
    """Return the places where only the name of something else changes."""
    return tuple(
        Change(
            renaming.path,
            renaming.before,
            renaming.after,
            Consequence.LIVE,
            origin=sources.of(renaming.path)[0],
            provenance=sources.of(renaming.path)[1],
            cause=f"{renaming.before} was renamed",
        )
        for renaming in renamings
    )


def drift_change(deviation: Deviation, kind: Kind, sources: Sources) -> Change:
    """Return a deviation of the kernel as the change that mends it."""
    sensitive = kind is Kind.SECRET
    return Change(
        path=deviation.path,
        before=mask(deviation.actual, sensitive),
        after=mask(deviation.recorded, sensitive),
        consequence=Consequence(deviation.consequence),
        sensitive=sensitive,
        origin=sources.of(deviation.path)[0],
        provenance="kernel",
        cause=deviation.cause,
        effects=deviation.effects,
    )


def with_drift(changes: tuple[Change, ...], drift: tuple[Change, ...]) -> tuple[Change, ...]:
    """Return both, with one change where a field has drifted and is wanted otherwise as well."""
    wanted = {change.path: change for change in changes}
    merged = []
    for found in drift:
        edit = wanted.pop(found.path, None)
        if edit is None:
            merged.append(found)
            continue
        worst = max(edit.consequence, found.consequence, key=lambda c: c.rank)
        merged.append(
            Change(
                path=edit.path,
                before=found.before,
                after=edit.after,
                consequence=worst,
                sensitive=edit.sensitive,
                origin=edit.origin,
                provenance=edit.provenance,
                cause=found.cause,
                effects=found.effects,
            )
        )
    return (*merged, *wanted.values())


def worst(changes: Iterable[Change]) -> Consequence:
    """Return the gravest consequence; NONE without changes."""
    return max((c.consequence for c in changes), key=lambda c: c.rank, default=Consequence.NONE)


def is_derived(path: str) -> bool:
    """Return whether the field at *path* follows from another resource, or from the host."""
    return _DERIVED.match(path) is not None


def is_fingerprint(value: Any) -> bool:
    """Return whether *value* stands for a secret (see ``SecretValue.fingerprint``)."""
    return isinstance(value, str) and value.startswith("hmac-sha256:")


def _has_members(path: str, written: Iterable[str]) -> bool:
    inside = (f"{path}.", f"{path}[")
    return any(other.startswith(inside) for other in written)


def masked(tree: Any) -> Any:
    """Return *tree* with HIDDEN wherever in it stands a fingerprint of a secret."""
    if isinstance(tree, dict):
        return {key: masked(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [masked(value) for value in tree]
    return HIDDEN if is_fingerprint(tree) else tree


def mask(value: Any, sensitive: bool) -> Any:
    """Return *value* as it may be shown: without fingerprints of secrets."""
    if sensitive:
        return None if value is None else HIDDEN
    if isinstance(value, dict) and "secret" in value and "fingerprint" in value:
        return value | {"fingerprint": HIDDEN}
    if isinstance(value, dict) and "fingerprint" in value:
        return {k: v for k, v in value.items() if k != "fingerprint"}
    return value
