"""What the schemas say about structure, in the form normalising and merging need.

The schemas are made so that a short form and its object form stand side by side (see
``schemas``): one node has the types, the members, the items and the marks of all of them.
"""

import functools
import re
from collections.abc import Mapping
from typing import Any

import schemas
from provider.model.ids import Kind
from provider.model.tree import Json, Tree
from runtime.record import dataclass, field

_STEP = re.compile(r"\.?([^.\[\]]+)|\[([^\]]*)\]")


@dataclass(frozen=True, slots=True)
class Shape:
    """One node of a schema with its references followed."""

    types: frozenset[str] = frozenset()
    definition: str = ""
    """Name of the shared definition it refers to: ``size``, ``mode``, ``mountTarget``."""
    unit: str = ""
    """``bytes | seconds | cores``, or none."""
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    """Exclusive minimum."""
    properties: Mapping[str, "Shape"] = field(default_factory=dict)
    defaults: Mapping[str, Json] = field(default_factory=dict)
    """Default of each property that has one."""
    exclusive: tuple[str, ...] = ()
    """Properties of which exactly one is given."""
    values: "Shape | None" = None
    """What all values of a free map look like."""
    items: "Shape | None" = None
    mark: str = ""
    """Of a list: ``atomic | set | map``."""
    keys: tuple[str, ...] = ()
    """Of a map list: the members that make the merge key."""

    def step(self, key: str) -> "Shape | None":
        """Return the shape of a member, map entry or list item."""
        return self.properties.get(key) or self.values or self.items

    def find(self, path: str) -> "Shape | None":
        """Return the shape at a dotted path (``volumes[/data].readOnly``), or None."""
        shape: Shape | None = self
        for match in _STEP.finditer(path):
            if shape is None:
                return None
            shape = shape.items or shape.values if match[1] is None else shape.step(match[1])
        return shape


@functools.cache
def document_shape(kind: Kind) -> Shape:
    """Return the shape of a whole document of that kind."""
    root = schemas.bundle(kind.lower())
    return _shape(root, root)


def spec_shape(kind: Kind) -> Shape:
    """Return the shape of ``spec``."""
    return document_shape(kind).properties["spec"]


def key_text(element: Json, keys: tuple[str, ...]) -> str:
    """Return the merge key of a canonical list item as paths show it.

    ``/data``, ``Container/db``, and for published ports ``0.0.0.0:80/tcp``.
    """
    if not isinstance(element, dict):
        return str(element)
    if keys == ("ip", "port", "protocol"):
        return f"{element['ip']}:{element['port']}/{element['protocol']}"
    return "/".join(str(element[key]) for key in keys)


def _shape(node: Tree, root: Tree) -> Shape:
    node, definition = _flatten(node, root)
    types = node.get("type", ())
    properties: Tree = node.get("properties", {})
    extra = node.get("additionalProperties")
    return Shape(
        types=frozenset([types] if isinstance(types, str) else types),
        definition=definition,
        unit=node.get("x-unit", ""),
        minimum=node.get("minimum"),
        maximum=node.get("maximum"),
        above=node.get("exclusiveMinimum"),
        properties={name: _shape(member, root) for name, member in properties.items()},
        defaults=_defaults(properties, root),
        exclusive=tuple(node.get("then", {}).get("x-exactly-one-of", ())),
        values=_shape(extra, root) if isinstance(extra, dict) else None,
        items=_shape(node["items"], root) if "items" in node else None,
        mark=node.get("x-list", ""),
        keys=tuple(node.get("x-key", ())),
    )


def _defaults(properties: Tree, root: Tree) -> Tree:
    flat = {name: _flatten(member, root)[0] for name, member in properties.items()}
    return {name: member["default"] for name, member in flat.items() if "default" in member}


def _flatten(node: Tree, root: Tree) -> tuple[Tree, str]:
    """Return *node* over what it refers to, and the name of the last definition on the way."""
    definition = ""
    flat: dict[str, Any] = dict(node)
    while "$ref" in flat:
        reference = flat.pop("$ref")
        definition = reference.rsplit("/", 1)[-1]
        flat = {**schemas.resolve(root, reference), **flat}
    return flat, definition
