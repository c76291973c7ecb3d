"""A resource on its way from a document to ``Desired``: canonical, but not yet connected."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from provider.errors import Origin, Problem
from provider.manifest.gap import GapError
from provider.manifest.provenance import place
from provider.manifest.suggest import did_you_mean, misspelt
from provider.model.ids import Kind, ResourceId
from provider.model.tree import Tree
from runtime.record import dataclass

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
    depends_on: Sequence[Tree]
    hosts: Tree | None
    """``{names, matchLabels}``, one of them None; None: every host."""
    lifecycle: Tree
    origin: Origin | None
    """None for what is implied and written nowhere."""
    folder: str
    """Folder of the manifest; relative paths in it start there."""
    provenance: Mapping[str, Origin]
    """Canonical path inside the spec (``metadata...`` for metadata) -> where it was written."""
    complete: bool = True
    """False where something in it is wrong: it has gaps then (provider.manifest.gap)."""

    @property
    def container(self) -> Tree | None:
        """The canonical container, for kinds that have one."""
        try:
            tree: Tree | None = self.spec["container"] if self.id.kind in CONTAINER_KINDS else None
        except GapError:
            return None
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


@dataclass(frozen=True, slots=True)
class Lost:
    """What is in the input and could not be understood."""

    names: frozenset[tuple[str, str]] = frozenset()
    """Kind and name of documents: ``""`` for a kind that is none and for a name that is missing."""
    texts: tuple[str | None, ...] = ()
    """What could not be parsed; None: it is not even known what it says."""

    def may_hold(self, kind: Kind, name: str = "") -> bool:
        """Return whether a *kind* of that *name*, or of any, may be defined there."""
        return any(
            lost_kind in (kind, "") and (not name or lost in ("", name) or misspelt(lost, (name,)))
            for lost_kind, lost in self.names
        ) or any(text is None or _holds(text, name or kind) for text in self.texts)


def _holds(text: str, word: str) -> bool:
    return re.search(rf"(?<![A-Za-z0-9-]){re.escape(word)}(?![A-Za-z0-9-])", text) is not None


_SHOWN = 8
"""So many names are listed in a suggestion."""


class Catalog:
    """What the manifests of one project define, by kind and name."""

    def __init__(self, project: str, drafts: Iterable[Draft], lost: "Lost") -> None:
        """*lost* is what the manifests define besides, of which nothing more can be said."""
        self.project = project
        self.lost = lost
        self._drafts = {draft.id: draft for draft in drafts}

    def __iter__(self) -> Iterator[Draft]:
        return iter(self._drafts.values())

    def get(self, kind: Kind, name: str) -> Draft | None:
        """Return the draft of that name, if there is one that could be understood."""
        return self._drafts.get(ResourceId(self.project, kind, name))

    def is_known(self, kind: Kind, name: str) -> bool:
        """Return whether the manifests define it, rightly or wrongly."""
        return self.get(kind, name) is not None or (kind, name) in self.lost.names

    def may_exist(self, kind: Kind, name: str) -> bool:
        """Return whether the manifests define it, or may do so where they cannot be understood."""
        return self.is_known(kind, name) or self.lost.may_hold(kind, name)

    def names(self, kind: Kind) -> list[str]:
        """Return the names of that kind, sorted."""
        written = {name for lost, name in self.lost.names if lost == kind and name}
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
