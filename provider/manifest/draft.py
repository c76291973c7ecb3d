"""A resource on its way from a document to ``Desired``: canonical, but not yet connected."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from provider.errors import Origin, Problem
from provider.manifest.provenance import place
from provider.manifest.suggest import did_you_mean
from provider.model.ids import Kind, ResourceId
from provider.model.tree import Tree

CONTAINER_KINDS = frozenset({Kind.CONTAINER, Kind.SERVICE, Kind.JOB})
"""Kinds whose spec has a member ``container``."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What one document says, in canonical form; references are still names."""

    id: ResourceId
    spec: Tree
    """Without ``dependsOn``, ``hosts`` and ``lifecycle``."""
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    former_name: str
    depends_on: tuple[Tree, ...]
    hosts: Tree | None
    """``{names, matchLabels}``, one of them None; None: every host."""
    lifecycle: Tree
    origin: Origin | None
    """None for what is implied and written nowhere."""
    folder: str
    """Folder of the manifest; relative paths in it start there."""
    provenance: Mapping[str, Origin]
    """Canonical path inside the spec (``metadata...`` for metadata) -> where it was written."""
    sensitive: frozenset[str] = frozenset()
    """Paths of the spec a value from ``--secret-values`` went into."""

    @property
    def container(self) -> Tree | None:
        """The canonical container, for kinds that have one."""
        tree: Tree | None = self.spec["container"] if self.id.kind in CONTAINER_KINDS else None
        return tree

    def origin_of(self, path: str) -> Origin | None:
        """Return where *path*, or else the nearest thing around it, was written."""
        return place(self.provenance, path, self.origin)

    def problem(
        self, path: str, message: str, *, expected: str = "", suggestion: str = ""
    ) -> Problem:
        """Return a problem with the field at *path* (inside the spec, or below ``metadata``)."""
        full = path if path.startswith("metadata") or not path else f"spec.{path}"
        return Problem(message, self.origin_of(path), full, expected, suggestion)


_SHOWN = 8
"""So many names are listed in a suggestion."""


class Catalog:
    """What the manifests of one project define, by kind and name."""

    def __init__(
        self, project: str, drafts: Iterable[Draft], failed: Iterable[tuple[str, str]]
    ) -> None:
        """*failed* names what did not pass its schema: known, but nothing more to say of it."""
        self.project = project
        self._drafts = {draft.id: draft for draft in drafts}
        self._failed = frozenset(failed)

    def __iter__(self) -> Iterator[Draft]:
        return iter(self._drafts.values())

    def get(self, kind: Kind, name: str) -> Draft | None:
        """Return the draft of that name, if there is one that passed its schema."""
        return self._drafts.get(ResourceId(self.project, kind, name))

    def is_known(self, kind: Kind, name: str) -> bool:
        """Return whether the manifests define it, rightly or wrongly."""
        return self.get(kind, name) is not None or (kind, name) in self._failed

    def names(self, kind: Kind) -> list[str]:
        """Return the names of that kind, sorted."""
        written = {name for failed, name in self._failed if failed == kind}
        return sorted(written | {i.name for i in self._drafts if i.kind is kind})

    def kinds_of(self, name: str) -> list[Kind]:
        """Return the kinds that have something of that name."""
        return [kind for kind in Kind if self.is_known(kind, name)]

    def suggest(self, kind: Kind, name: str) -> str:
        """Return what a reference to an unknown *kind* of that *name* may have meant."""
        if close := did_you_mean(name, self.names(kind)):
            return close
        if kinds := self.kinds_of(name):
            return f"{kinds[0]}/{name} exists, but a {kind} is needed here"
        known = self.names(kind)
        if not known:
            return f"add a document of kind {kind} and that name"
        return f"known: {', '.join(known[:_SHOWN])}{' ...' if len(known) > _SHOWN else ''}"
