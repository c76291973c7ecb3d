"""Documents to canonical trees: short forms expanded, defaults filled in, units and order settled.

The walk follows the kind's schema (provider.manifest.shape), so that a field that is added there
needs nothing here. Two documents that mean the same come out equal, and what comes out is left as
it is when it goes in again. Every node that was written keeps its place. Pure.
"""

import functools
import os.path
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from provider.errors import Origin, Problem
from provider.manifest import scalars, shorthand
from provider.manifest.document import Document, TreePath, dotted
from provider.manifest.draft import CONTAINER_KINDS, Draft
from provider.manifest.shape import Shape, document_shape, key_text
from provider.model.ids import Kind, ResourceId
from provider.model.tree import Tree, item, join

_LIFTED = frozenset({"dependsOn", "hosts", "lifecycle"})

_KIND_DEFAULTS: Mapping[tuple[Kind, str], str] = {(Kind.JOB, "container.restart.policy"): "no"}
"""Defaults that differ by kind where the schema is shared."""

_SPELLINGS: Mapping[str, Callable[[str], str]] = {
    "container.capabilities.add.*": scalars.capability,
    "container.capabilities.drop.*": scalars.capability,
    "container.devices.*.permissions": scalars.permissions,
}
"""Of single fields; those of shared definitions are in provider.manifest.scalars."""


def normalise(
    document: Document, *, project: str, folder: str
) -> tuple[Draft, tuple[Problem, ...]]:
    """Return what *document*, which passed its schema, says in canonical form.

    *folder* is where relative paths in it start. The problems are merge keys that stand twice,
    and secret values in places where they would be shown.
    """
    kind = Kind(document.kind)
    walk = _Walk(document, kind, folder)
    shape = document_shape(kind).properties["spec"]
    spec: Tree = walk.value(shape, document.tree.get("spec") or {}, ("spec",), "", "")
    sensitive, exposed = _sensitive(document, kind)
    metadata = document.tree["metadata"]
    draft = Draft(
        id=ResourceId(project, kind, document.name),
        spec={key: value for key, value in spec.items() if key not in _LIFTED},
        labels=dict(sorted((metadata.get("labels") or {}).items())),
        annotations=dict(sorted((metadata.get("annotations") or {}).items())),
        former_name=metadata.get("formerName") or "",
        depends_on=tuple(spec.get("dependsOn", ())),
        hosts=spec.get("hosts"),
        lifecycle=spec.get("lifecycle") or {"preventDestroy": False, "prune": True, "ignore": []},
        origin=document.origin,
        folder=folder,
        provenance=walk.provenance | _metadata_places(document),
        sensitive=sensitive,
    )
    return draft, (*walk.problems, *exposed)


def canonical_spec(kind: Kind, tree: Tree) -> Tree:
    """Return the canonical spec of *tree*, which was written nowhere (``{}``: all defaults)."""
    spec: Tree = _Walk(None, kind, "").value(
        document_shape(kind).properties["spec"], tree, None, "", ""
    )
    return {key: value for key, value in spec.items() if key not in _LIFTED}


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
    provenance: dict[str, Origin] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def value(self, shape: Shape, value: Any, raw: TreePath | None, path: str, pattern: str) -> Any:
        """Return the canonical form of *value*, and write down where it is from."""
        if raw is not None and path and self.document is not None:
            self.provenance[path] = self.document.positions.nearest(raw)
        if value is None:
            return None
        try:
            tree = shorthand.expand(pattern, value)
            if isinstance(tree, dict):
                return self._object(shape, tree, raw, path, pattern, short=tree is not value)
            if isinstance(tree, list):
                return self._list(shape, tree, raw, path, pattern)
            return self._scalar(shape, tree, raw, pattern)
        except ValueError as error:
            self._report(raw, str(error))
            return None

    def _object(
        self,
        shape: Shape,
        tree: Tree,
        raw: TreePath | None,
        path: str,
        pattern: str,
        *,
        short: bool,
    ) -> Tree:
        """Walk an object; the members a *short* form stands for all have its place."""

        def below(key: str) -> TreePath | None:
            return raw if short or raw is None else (*raw, key)

        if shape.values is not None:
            return {
                key: self.value(
                    shape.values, tree[key], below(key), join(path, key), f"{pattern}.*"
                )
                for key in sorted(tree)
            }
        result = {}
        for name, member in shape.properties.items():
            deeper = f"{pattern}.{name}" if pattern else name
            written = tree.get(name)
            if written is not None or (name in tree and "null" in member.types):
                result[name] = self.value(member, written, below(name), join(path, name), deeper)
            else:
                result[name] = _default(self.kind, pattern, name)
        return shorthand.complete(pattern, result)

    def _list(
        self, shape: Shape, elements: list[Any], raw: TreePath | None, path: str, pattern: str
    ) -> list[Any]:
        assert shape.items is not None
        below = f"{pattern}.*"
        if shape.mark not in ("set", "map"):
            # An atomic list is compared as a whole, so its own place is enough.
            return [self.value(shape.items, element, None, "", below) for element in elements]
        found: dict[str, Any] = {}
        for position, element in enumerate(elements):
            here = None if raw is None else (*raw, position)
            # The key has to be known before the places below it can be named.
            key = key_text(self.value(shape.items, element, None, "", below), shape.keys)
            if key not in found:
                found[key] = self.value(shape.items, element, here, item(path, key), below)
            elif shape.mark == "map":
                first = self.provenance.get(item(path, key))
                self._report(
                    here, f"{key} stands here twice" + (f"; first {first}" if first else "")
                )
        items = [element for element in found.values() if element is not None]
        if shape.mark == "set":
            return sorted(set(items))
        return sorted(items, key=lambda element: [element[name] for name in shape.keys])

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
            return scalars.absolute_path(os.path.join(self.folder, result))
        return result

    def _report(self, raw: TreePath | None, message: str) -> None:
        if raw is not None and self.document is not None:
            origin = self.document.positions.nearest(raw)
            self.problems.append(Problem(message, origin, dotted(raw)))


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


def _sensitive(document: Document, kind: Kind) -> tuple[frozenset[str], list[Problem]]:
    """Return the items that hold secret values, and a problem for each that cannot hide one."""
    paths, problems = set(), []
    for path in sorted(document.sensitive, key=str):
        match path:
            case ("spec", "container", "env", str(name)) | (
                "spec", "container", "env", str(name), "value",
            ) if kind in CONTAINER_KINDS:  # fmt: skip
                paths.add(join("container.env", name))
            case ("spec", "data", str(key)) | ("spec", "data", str(key), "text") if kind in (
                Kind.CONFIG,
                Kind.SECRET,
            ):
                paths.add(join("data", key))
            case _:
                problems.append(
                    Problem(
                        "a value from --secret-values would be shown and recorded here",
                        document.positions.nearest(path),
                        dotted(path),
                        expected="secret values only in env, and in data of a Config or Secret",
                    )
                )
    return frozenset(paths), problems
