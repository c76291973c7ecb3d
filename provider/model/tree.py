"""Specs as canonical JSON trees: the one form that is hashed, stored, compared and shown.

A tree is canonical when every property of its schema is present (absent optional ones as None,
defaults filled in), short forms are expanded, quantities are plain numbers (bytes, seconds,
cores), lists marked ``set`` or ``map`` are sorted (by value, by merge key). Two canonical trees
are equal exactly when they mean the same. Trees are never changed in place once made.

Paths are dotted: ``container.env.DB_HOST``, ``container.volumes[/data].readOnly``; a key that is
not a plain word stands in brackets.
"""

import hashlib
import json
import re
from typing import Any, TypeAlias

Json: TypeAlias = bool | int | float | str | list[Any] | dict[str, Any] | None
Tree: TypeAlias = dict[str, Any]

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")


def join(path: str, key: str) -> str:
    """Return the path of member *key* of the object at *path*."""
    if not _PLAIN.match(key):
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key


def item(path: str, key: object) -> str:
    """Return the path of the list item with merge key (or position) *key*."""
    return f"{path}[{key}]"


def dumps(tree: Json) -> str:
    """Return the one text of a canonical tree: sorted keys, no white space."""
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def fingerprint(tree: Json) -> str:
    """Return ``sha256:...`` of the canonical text."""
    return "sha256:" + hashlib.sha256(dumps(tree).encode()).hexdigest()
