"""Overlays: partial documents merged into those of the same kind and name. Pure.

The merge follows the marks of the schema: objects member by member, lists marked ``map`` item by
item by merge key, ``set`` by union, everything else replaced. ``null`` takes away what is below,
so that the default applies; where null itself is a setting (``pids``), it is set. Of members that
exclude each other, that of the overlay stays. What came from an overlay keeps its place, with the
overlay's folder noted.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from provider.errors import Origin, Problem
from provider.manifest import shorthand
from provider.manifest.document import Document, Positions, TreePath
from provider.manifest.draft import Lost
from provider.manifest.normalise import merge_key
from provider.manifest.shape import Shape, document_shape
from provider.manifest.suggest import closest, did_you_mean
from provider.manifest.taint import exposed
from provider.model.ids import Kind
from runtime.record import dataclass

_KINDS = frozenset(Kind)
_NOTHING = Lost()


def merge_overlay(
    documents: Sequence[Document],
    overlay: Iterable[Document],
    *,
    folder: str,
    lost: Lost = _NOTHING,
) -> tuple[tuple[Document, ...], tuple[Problem, ...]]:
    """Return *documents* with those of *overlay* merged in; *folder* is what messages call it.

    Neither is validated yet. Problems: overlays for what the manifests do not define, not even in
    what of them is *lost*.
    """
    merged = list(documents)
    position = {(d.kind, d.name): i for i, d in reversed(list(enumerate(documents)))}
    problems: list[Problem] = []
    for patch in overlay:
        at = position.get((patch.kind, patch.name))
        if at is not None and patch.kind in _KINDS:
            merged[at] = _merge_documents(merged[at], patch, f"overlay {folder}")
        elif patch.kind not in _KINDS or not lost.may_hold(Kind(patch.kind), patch.name):
            hidden = exposed(patch) if not patch.kind or not patch.name else {}
            problems += hidden.values() or [_unknown(patch, documents, folder)]
    return tuple(merged), tuple(problems)


def _unknown(patch: Document, documents: Iterable[Document], folder: str) -> Problem:
    def place(*path: str) -> Origin:
        return dataclasses.replace(patch.positions.nearest(path), note=f"overlay {folder}")

    if not patch.kind or not patch.name:
        return Problem("an overlay document needs kind and metadata.name", place())
    if patch.kind not in _KINDS:
        advice = did_you_mean(patch.kind, _KINDS)
        return Problem(f"kind {patch.kind} is unknown", place("kind"), "kind", suggestion=advice)
    near = closest(patch.name, [d.name for d in documents if d.kind == patch.kind])
    known = [f"{d.kind}/{d.name}" for d in documents if d.name == patch.name]
    meant = f"{patch.kind}/{near}" if near else "".join(known[:1])
    return Problem(
        f"the manifests define no {patch.kind}/{patch.name} to lay this over",
        place("metadata", "name"),
        "metadata.name",
        suggestion=f"did you mean `{meant}`?" if meant else "",
    )


@dataclass(slots=True)
class _Node:
    """A value with all that is known of where it was written."""

    value: Any
    """Scalar, or members (dict) or items (list) as nodes."""
    key_origin: Origin
    origin: Origin
    text: str | None
    sensitive: bool


class _MergedPositions(Positions):
    """Positions of nodes that come from several files."""

    __slots__ = ("_origins",)

    def __init__(self, origins: Mapping[TreePath, tuple[Origin, Origin]]) -> None:
        super().__init__("", {path: (0, 0, 0, 0) for path in origins})
        self._origins = origins

    def __getitem__(self, path: TreePath) -> Origin:
        return self._origins[path][0]

    def value(self, path: TreePath) -> Origin:
        return self._origins[path][1]


def _merge_documents(base: Document, patch: Document, note: str) -> Document:
    kind = Kind(base.kind)
    shape = document_shape(kind)
    root = _merge(shape, _node(base, base.tree, ()), _node(patch, patch.tree, (), note), "", kind)
    origins: dict[TreePath, tuple[Origin, Origin]] = {}
    written: dict[TreePath, str] = {}
    sensitive: set[TreePath] = set()
    tree = _plain(root, (), origins, written, sensitive)
    return dataclasses.replace(
        base,
        tree=tree,
        positions=_MergedPositions(origins),
        written=written,
        sensitive=frozenset(sensitive),
    )


def _node(document: Document, value: Any, path: TreePath, note: str = "") -> _Node:
    if isinstance(value, dict):
        content: Any = {k: _node(document, v, (*path, k), note) for k, v in value.items()}
    elif isinstance(value, list):
        content = [_node(document, v, (*path, i), note) for i, v in enumerate(value)]
    else:
        content = value
    key_origin = document.positions.nearest(path)
    origin = document.positions.value(path) if path in document.positions else key_origin
    if note:
        key_origin, origin = (dataclasses.replace(o, note=note) for o in (key_origin, origin))
    return _Node(
        content, key_origin, origin, document.written.get(path), path in document.sensitive
    )


def _plain(
    node: _Node,
    path: TreePath,
    origins: dict[TreePath, tuple[Origin, Origin]],
    written: dict[TreePath, str],
    sensitive: set[TreePath],
) -> Any:
    """Return the data of *node*, and fill the three tables from it."""
    origins[path] = node.key_origin, node.origin
    if node.text is not None:
        written[path] = node.text
    if node.sensitive:
        sensitive.add(path)
    tables = origins, written, sensitive
    if isinstance(node.value, dict):
        return {key: _plain(below, (*path, key), *tables) for key, below in node.value.items()}
    if isinstance(node.value, list):
        return [_plain(below, (*path, i), *tables) for i, below in enumerate(node.value)]
    return node.value


def _merge(shape: Shape, base: _Node, patch: _Node, pattern: str, kind: Kind) -> _Node:
    if isinstance(base.value, dict) and isinstance(patch.value, dict):
        return _merge_objects(shape, base, patch, pattern, kind)
    if isinstance(base.value, list) and isinstance(patch.value, list):
        if shape.mark == "map" and shape.items is not None:
            return _merge_items(shape, base, patch, pattern, kind)
        if shape.mark == "set":
            return dataclasses.replace(base, value=_union(base.value, patch.value))
    return patch


def _merge_objects(shape: Shape, base: _Node, patch: _Node, pattern: str, kind: Kind) -> _Node:
    members: dict[str, _Node] = dict(base.value)
    if any(patch.value[name].value is not None for name in shape.exclusive if name in patch.value):
        for name in shape.exclusive:
            if name not in patch.value:
                members.pop(name, None)
    for name, over in patch.value.items():
        member = shape.step(name) or Shape()
        if over.value is None and not _null_is_a_setting(shape, name, member):
            members.pop(name, None)
        elif name in members:
            deeper = _below(pattern, "*" if name not in shape.properties else name)
            under = members[name]
            if isinstance(over.value, dict):
                under = _expanded(under, deeper)
            members[name] = _merge(member, under, over, deeper, kind)
        else:
            members[name] = over
    return dataclasses.replace(base, value=members, sensitive=base.sensitive or patch.sensitive)


def _null_is_a_setting(shape: Shape, name: str, member: Shape) -> bool:
    return "null" in member.types and shape.defaults.get(name) is not None


def _merge_items(shape: Shape, base: _Node, patch: _Node, pattern: str, kind: Kind) -> _Node:
    """Merge two lists by merge key; what is new in *patch* goes to the end."""
    assert shape.items is not None
    below = _below(pattern, "*")
    items: list[_Node] = list(base.value)
    place = {_key(kind, shape, node, below): at for at, node in enumerate(items)}
    for node in patch.value:
        at = place.get(_key(kind, shape, node, below))
        if at is None:
            items.append(node)
        else:
            one, other = _expanded(items[at], below), _expanded(node, below)
            items[at] = _merge(shape.items, one, other, below, kind)
    return dataclasses.replace(base, value=items)


def _key(kind: Kind, shape: Shape, node: _Node, pattern: str) -> str:
    """Return the merge key of an item; of one that is nonsense, one that nothing else has.

    Nothing was validated yet, so only what can make a key is looked at.
    """
    element = _data(node)
    if isinstance(element, dict):
        element = {key: part for key, part in element.items() if isinstance(part, (str, int))}
    if isinstance(element, (dict, str, int)):
        try:
            return merge_key(kind, shape, element, _in_spec(pattern))
        except (TypeError, AttributeError):
            pass  # A number where a text belongs, or the other way round: for validation to word.
    return f"{id(node)}"


def _expanded(node: _Node, pattern: str) -> _Node:
    """Return the object form of *node*; its members have the place of the short form."""
    if isinstance(node.value, (dict, list)) or node.value is None or node.sensitive:
        return node
    try:
        tree = shorthand.expand(_in_spec(pattern), node.value)
    except ValueError:
        return node
    if not isinstance(tree, dict):
        return node
    return dataclasses.replace(
        node, value={name: dataclasses.replace(node, value=part) for name, part in tree.items()}
    )


def _union(base: list[_Node], patch: list[_Node]) -> list[_Node]:
    present = [_data(node) for node in base]
    return base + [node for node in patch if _data(node) not in present]


def _data(node: _Node) -> Any:
    return _plain(node, (), {}, {}, set())


def _below(pattern: str, name: str) -> str:
    return f"{pattern}.{name}" if pattern else name


def _in_spec(pattern: str) -> str:
    """Return *pattern*, which starts at the document, as the tables of short forms have it."""
    return pattern.removeprefix("spec.")
