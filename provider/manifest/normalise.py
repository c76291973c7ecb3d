"""Documents to canonical trees: short forms expanded, defaults filled in, units and order settled.

The walk follows the kind's schema (provider.manifest.shape), so that a field that is added there
needs nothing here. Two documents that mean the same come out equal, and what comes out is left as
it is when it goes in again. Every node that was written keeps its place. Pure.
"""

import functools
import os.path
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from provider.errors import Origin, Problem
from provider.manifest import scalars, shorthand
from provider.manifest.document import Document, TreePath, dotted
from provider.manifest.draft import Draft
from provider.manifest.gap import (
    GAP,
    GapError,
    GappedList,
    GappedTree,
    seal_list,
    seal_tree,
    with_gaps,
    without,
)
from provider.manifest.shape import Shape, document_shape, key_text
from provider.model.ids import Kind, ResourceId
from provider.model.secret import SecretValue
from provider.model.tree import Tree, item, join
from runtime.record import dataclass, field

_LIFTED = frozenset({"dependsOn", "hosts", "lifecycle"})
_LIFECYCLE: Tree = {"preventDestroy": False, "prune": True, "ignore": []}

_KIND_DEFAULTS: Mapping[tuple[Kind, str], str] = {(Kind.JOB, "container.restart.policy"): "no"}
"""Defaults that differ by kind where the schema is shared."""

_SPELLINGS: Mapping[str, Callable[[str], str]] = {
    # The names of networks are told in lower case, and DNS knows no other.
    "container.networks.*.aliases.*": str.lower,
    "container.dns.search.*": str.lower,
    "container.extraHosts.*": scalars.address,
    "container.volumes.*.propagation": scalars.propagation,
    "container.resources.cpuset": scalars.processors,
    "container.capabilities.add.*": scalars.capability,
    "container.capabilities.drop.*": scalars.capability,
    "container.devices.*.permissions": scalars.permissions,
}
"""Of single fields; those of shared definitions are in provider.manifest.scalars."""

_PROJECTS = frozenset(
    f"container.{field}.project" for field in ("image", "networks.*", "volumes.*")
)
"""Where the project of the run may be named, and is meant if none is."""


def normalise(
    document: Document, *, project: str, folder: str, gaps: Iterable[TreePath] = ()
) -> tuple[Draft, tuple[Problem, ...]]:
    """Return what *document* says in canonical form; it passed its schema but for *gaps*.

    *folder* is where relative paths in it start. The problems are merge keys that stand twice.
    """
    kind = Kind(document.kind)
    tree = with_gaps(document.tree, gaps)
    walk = _Walk(document, kind, folder, project)
    shape = document_shape(kind).properties["spec"]
    spec: Tree = walk.value(shape, tree.get("spec") or {}, ("spec",), "", "")
    metadata = tree["metadata"]
    former_name = metadata.get("formerName")
    waits = _lifted(spec, "dependsOn", GappedList(), ())
    draft = Draft(
        id=ResourceId(project, kind, document.name),
        spec=without(spec, _LIFTED),
        labels=_texts(metadata.get("labels")),
        annotations=_texts(metadata.get("annotations")),
        former_name="" if former_name is GAP else former_name or "",
        depends_on=waits if isinstance(waits, GappedList) else tuple(waits),
        hosts=_lifted(spec, "hosts", GappedTree({}, ("names", "matchLabels"))),
        lifecycle=_lifted(spec, "lifecycle", GappedTree({}, ("ignore",)), _LIFECYCLE),
        origin=document.origin,
        folder=folder,
        provenance=walk.provenance | _metadata_places(document),
        complete=tree is document.tree and not walk.problems,
    )
    return draft, tuple(walk.problems)


def _lifted(spec: Tree, name: str, unknown: Any, default: Any = None) -> Any:
    try:
        return spec.get(name, default)
    except GapError:
        return unknown


def _texts(tree: Any) -> Tree:
    """Return labels or annotations, sorted."""
    if tree is GAP:
        return GappedTree({}, ())
    return seal_tree(dict(sorted((tree or {}).items())))


def canonical_spec(kind: Kind, tree: Tree) -> Tree:
    """Return the canonical spec of *tree*, which was written nowhere (``{}``: all defaults)."""
    spec: Tree = _Walk(None, kind, "").value(
        document_shape(kind).properties["spec"], tree, None, "", ""
    )
    return without(spec, _LIFTED)


def merge_key(kind: Kind, shape: Shape, element: Any, pattern: str) -> str:
    """Return the merge key of a list item as written, in any of its forms.

    *shape* is the list's, *pattern* that of its items (``container.volumes.*``).
    """
    assert shape.items is not None
    walk = _Walk(None, kind, "")
    return key_text(walk.value(shape.items, element, None, "", pattern), shape.keys)


@dataclass(slots=True)
class _Walk:
    """One pass over a document; *raw* is a path as written, None below what was not."""

    document: Document | None
    kind: Kind
    folder: str
    project: str = ""
    provenance: dict[str, Origin] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def value(self, shape: Shape, value: Any, raw: TreePath | None, path: str, pattern: str) -> Any:
        """Return the canonical form of *value*, and write down where it is from."""
        if raw is not None and path and self.document is not None:
            self.provenance[path] = self.document.positions.nearest(raw)
        if value is None or value is GAP:
            return value
        try:
            tree = shorthand.expand(pattern, value)
            if isinstance(tree, SecretValue):
                return tree
            if isinstance(tree, dict):
                return self._object(shape, tree, raw, path, pattern, short=tree is not value)
            if isinstance(tree, list):
                return self._list(shape, tree, raw, path, pattern)
            return self._scalar(shape, tree, raw, pattern)
        except ValueError as error:
            expected = error.expected if isinstance(error, scalars.OutOfRangeError) else ""
            self._report(raw, str(error), expected)
            return GAP
        except GapError:
            return GAP

    def _object(
        self,
        shape: Shape,
        tree: Tree,
        raw: TreePath | None,
        path: str,
        pattern: str,
        *,
        short: bool,
    ) -> Tree | None:
        """Walk an object; the members a *short* form stands for all have its place."""

        def below(key: str) -> TreePath | None:
            return raw if short or raw is None else (*raw, key)

        if shape.values is not None:
            members: Tree = {}
            first: dict[str, str] = {}
            for key in sorted(tree):
                name = scalars.sysctl(key) if pattern == "container.sysctls" else key
                if name in members:
                    self._report(below(key), f"the same parameter as {first[name]}")
                    continue
                first[name] = key
                members[name] = self.value(
                    shape.values, tree[key], below(key), join(path, name), f"{pattern}.*"
                )
            return seal_tree(dict(sorted(members.items())))
        result = {}
        for name, member in shape.properties.items():
            deeper = f"{pattern}.{name}" if pattern else name
            written = tree.get(name)
            if written is not None or (name in tree and "null" in member.types):
                result[name] = self.value(member, written, below(name), join(path, name), deeper)
            else:
                result[name] = _default(self.kind, pattern, name)
        return shorthand.complete(pattern, seal_tree(result))

    def _list(
        self, shape: Shape, elements: list[Any], raw: TreePath | None, path: str, pattern: str
    ) -> list[Any]:
        assert shape.items is not None
        below = f"{pattern}.*"
        if shape.mark not in ("set", "map"):
            # An atomic list is compared as a whole, so its own place is enough.
            return seal_list(
                [self.value(shape.items, element, None, "", below) for element in elements]
            )
        found: dict[str, Any] = {}
        keyless: list[Any] = []
        for position, element in enumerate(elements):
            here = None if raw is None else (*raw, position)
            # The key has to be known before the places below it can be named.
            try:
                key = key_text(self.value(shape.items, element, None, "", below), shape.keys)
            except GapError:
                keyless.append(self.value(shape.items, GAP, here, item(path, position), below))
                continue
            if key not in found:
                found[key] = self.value(shape.items, element, here, item(path, key), below)
            elif shape.mark == "map" and found[key] is not GAP:
                first = self.provenance.get(item(path, key))
                self._report(
                    here, f"{key} stands here twice" + (f"; first {first}" if first else "")
                )
        known = [element for element in found.values() if element is not GAP]
        lost = keyless + [GAP] * (len(found) - len(known))
        if shape.mark == "set":
            return seal_list(sorted(set(known)) + lost)
        return seal_list(sorted(known, key=lambda e: [e[name] for name in shape.keys]) + lost)

    def _scalar(self, shape: Shape, value: Any, raw: TreePath | None, pattern: str) -> Any:
        document = self.document

        def text() -> str:
            if document is not None:
                return document.text(raw or (), value)
            return str(value).lower() if isinstance(value, bool) else str(value)

        result = scalars.canonical(shape, value, text)
        if pattern in _SPELLINGS:
            return _SPELLINGS[pattern](result)
        if self.kind is Kind.IMAGE and pattern == "archive.path":
            return scalars.path(os.path.join(self.folder, result))
        return None if pattern in _PROJECTS and result == self.project else result

    def _report(self, raw: TreePath | None, message: str, expected: str = "") -> None:
        if raw is not None and self.document is not None:
            positions = self.document.positions
            origin = positions.value(raw) if raw in positions else positions.nearest(raw)
            self.problems.append(Problem(message, origin, dotted(raw), expected))


@functools.cache
def _default(kind: Kind, pattern: str, name: str) -> Any:
    """Return what an absent member *name* of the object at *pattern* is; one tree for all."""
    shape: Shape | None = document_shape(kind).properties["spec"]
    for step in pattern.split(".") if pattern else ():
        assert shape is not None
        shape = shape.step(step)
    assert shape is not None
    below = f"{pattern}.{name}" if pattern else name
    default = _KIND_DEFAULTS.get((kind, below), shape.defaults.get(name))
    return _Walk(None, kind, "").value(shape.properties[name], default, None, "", below)


def _metadata_places(document: Document) -> dict[str, Origin]:
    places = {}
    for path in document.positions:
        if path[:1] == ("metadata",):
            text = ""
            for step in path:
                text = join(text, str(step))
            places[text] = document.positions[path]
    return places
