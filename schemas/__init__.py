"""JSON Schemas 2020-12 of what Bayplan reads and writes.

One per kind (``service``), what they share (``container-spec``, ``common``), ``manifest`` for a
document of any kind, and ``plan`` and ``report`` for what comes out. They refer to each other by
``$id`` and are read from this package, never from a network.

Besides the standard's keywords they carry:

``x-list``            how a list is compared and merged: ``atomic``, ``set``, or ``map`` by the
                      members named in ``x-key``
``x-unit``            what a number is: ``bytes``, ``seconds``, ``cores``
``x-sensitive``       the value is never shown
``x-default``         a default that follows from other fields, in words
``x-expected``        what to write, in words, for error messages
``x-message``         what is wrong, in words, where the schema itself says it badly
``x-values``          the words a pattern allows, for suggestions
``x-hints``           word -> why it is not allowed yet, or what to write instead
``x-exactly-one-of``  what the ``oneOf`` beside it says: one of these members, and not null

A definition in ``common`` says what a value looks like; where it is used says which JSON types it
may have. So a short form and its object form stand in one schema without ``anyOf``, and an error
is always about the form that was written. A field that may be absent may be written as null.
"""

import functools
import json
from pathlib import Path
from typing import Any

KINDS = (
    "Project",
    "Host",
    "Network",
    "Volume",
    "Image",
    "Config",
    "Secret",
    "Container",
    "Service",
    "Job",
)
"""Kinds of documents, in the order people write them."""

_FOLDER = Path(__file__).parent  # importlib.resources takes longer to import than all else here
_PREFIX = "urn:bayplan:v1alpha1:"


def names() -> tuple[str, ...]:
    """Return the names of all schemas, sorted."""
    return tuple(sorted(file.stem for file in _FOLDER.glob("*.json")))


@functools.cache
def load(name: str) -> dict[str, Any]:
    """Return the schema *name* ("service", "common", "plan", ...) as shipped; do not change it.

    Raises:
        KeyError: there is none of that name.
    """
    file = _FOLDER / f"{name}.json"
    if not name.replace("-", "").isalnum() or not file.is_file():
        raise KeyError(name)
    schema: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return schema


@functools.cache
def bundle(name: str) -> dict[str, Any]:
    """Return the schema *name* with all it refers to in its ``$defs``; do not change it.

    For editors and for validators that shall not look anything up: each ``$ref`` points into the
    bundle. ``common#/$defs/size`` is found at ``#/$defs/common/$defs/size``.

    Raises:
        KeyError: there is no schema of that name.
    """
    needed: dict[str, Any] = {}
    schema = load(name)
    root = _localise(schema, "#", needed)
    definitions = {**root.get("$defs", {}), **needed}
    return {"$schema": schema["$schema"], **root, "$defs": definitions}


def resolve(root: dict[str, Any], reference: str) -> dict[str, Any]:
    """Return what the ``$ref`` *reference* of the bundle *root* points at."""
    node: Any = root
    for step in reference.removeprefix("#").split("/")[1:]:
        node = node[step]
    found: dict[str, Any] = node
    return found


def _localise(node: Any, base: str, needed: dict[str, Any]) -> Any:
    """Copy *node* with references made local; *base* is where its own document will stand."""
    if isinstance(node, list):
        return [_localise(item, base, needed) for item in node]
    if not isinstance(node, dict):
        return node
    copy = {}
    for key, value in node.items():
        # An inner $schema would make validators start anew, with none of their settings.
        if key in ("$id", "$schema"):
            continue
        if key == "$ref":
            copy[key] = _local_reference(value, base, needed)
        else:
            copy[key] = _localise(value, base, needed)
    return copy


def _local_reference(reference: str, base: str, needed: dict[str, Any]) -> str:
    document, _, pointer = reference.partition("#")
    if not document:
        return base + pointer
    name = document.removeprefix(_PREFIX)
    if name not in needed:
        needed[name] = {}
        needed[name] = _localise(load(name), f"#/$defs/{name}", needed)
    return f"#/$defs/{name}{pointer}"
