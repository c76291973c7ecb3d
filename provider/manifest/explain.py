"""The manifest language in words, from the schemas."""

import json
import re
import textwrap
from collections.abc import Sequence
from typing import Any

import schemas
from provider.errors import UsageError
from provider.manifest.suggest import closest, did_you_mean
from provider.model.tree import Tree

_WIDTH = 96
_UNITS = {
    "bytes": ("size", "bytes, or a number with Ki, Mi, Gi, Ti (powers of 1024) or k, M, G, T"),
    "seconds": ("duration", "seconds, or numbers with us, ms, s, m, h, d, such as 1m30s"),
    "cores": ("cores", "cores, or thousandths of a core with m, such as 500m"),
}
_TYPES = {"array": "list", "object": "mapping", "string": "text"}
_STEP = re.compile(r"\.?([^.\[\]]+)|\[[^\]]*\]")
_LISTS = {
    "atomic": "compared and replaced as a whole",
    "set": "without order; an item is its own key",
    "map": "without order; items are told apart by {keys}",
}


def explain(path: str = "") -> str:
    """Return what ``service.spec.container.resources`` is; without *path*, the kinds.

    Keys of mappings and positions of lists may be left out or given as anything
    (``service.spec.publish.port``, ``...env[NAME]``), and so may ``spec``.

    Raises:
        UsageError: there is no such field; the hint suggests one.
    """
    if not path:
        return _kinds()
    steps = [match[1] for match in _STEP.finditer(path)]
    name = steps[0] if steps and steps[0] else path
    known = {known.lower(): known for known in schemas.names()}
    if name.lower() not in known:
        suggestion = closest(name, schemas.KINDS)
        raise UsageError(
            f"no kind {name}",
            hint=f"did you mean {suggestion}?" if suggestion else "see `bayplan explain`",
        )
    root = schemas.bundle(known[name.lower()])
    node, shown = _resolved(root, root), known[name.lower()]
    for step in steps[1:]:
        if step is None:  # a position or key in brackets
            node = _inside(root, node) or node
            continue
        node, taken = _step(root, node, step, shown)
        shown += taken
    return _page(root, node, shown)


def _kinds() -> str:
    rows = [
        (kind.lower(), _first_sentence(schemas.load(kind.lower())["description"]))
        for kind in schemas.KINDS
    ]
    return "\n".join(
        [
            "Kinds of documents:",
            *_table(rows),
            "",
            "More with a kind and fields: bayplan explain service.spec.container",
        ]
    )


def _step(root: Tree, node: Tree, step: str, shown: str) -> tuple[Tree, str]:
    """Return the member *step* of *node*, and what its path adds to *shown*."""
    spec = node["properties"].get("spec")
    for taken, start in (("", node), (".spec", _resolved(root, spec) if spec else {})):
        inner: Tree | None = start
        way = taken
        while inner:
            members = inner["properties"]
            if step in members:
                return _resolved(root, members[step]), f"{way}.{step}"
            if isinstance(inner.get("additionalProperties"), dict) and "items" not in inner:
                return _inside(root, inner) or {}, f"{way}.{step}"
            inner = _inside(root, inner)
            way += "[]"
    names = [*_names(root, node), *(_names(root, _resolved(root, spec)) if spec else ())]
    raise UsageError(
        f"no field {step} in {shown}",
        hint=did_you_mean(step, names)
        or (f"one of: {', '.join(names)}" if names else f"{shown} has no fields"),
    )


def _names(root: Tree, node: Tree) -> list[str]:
    inner: Tree | None = node
    while inner:
        if inner["properties"]:
            return list(inner["properties"])
        inner = _inside(root, inner)
    return []


def _inside(root: Tree, node: Tree) -> Tree | None:
    """Return what the items of a list, or the values of a free mapping, look like."""
    for keyword in ("items", "additionalProperties"):
        if isinstance(node.get(keyword), dict):
            return _resolved(root, node[keyword])
    return None


def _page(root: Tree, node: Tree, shown: str) -> str:
    inner = _inside(root, node)
    lines = [f"{shown}: {_type(root, node)}", "", *_wrapped(node.get("description", ""))]
    if inner and inner.get("description") not in (None, node.get("description")):
        lines += _wrapped(f"Each: {inner['description']}")
    facts = [*_facts(node), *_list_facts(node)]
    if inner and not inner["properties"]:
        facts += [(f"Each, {name.lower()}", text) for name, text in _facts(inner)]
    if facts:
        lines += ["", *_table(facts, indent="")]
    holder = node
    while not holder["properties"] and (deeper := _inside(root, holder)):
        holder = deeper
    if holder["properties"]:
        lines += ["", *_fields(root, holder)]
    return "\n".join(lines)


def _fields(root: Tree, node: Tree) -> list[str]:
    required = node["required"]
    rows = []
    for name, schema in node["properties"].items():
        member = _resolved(root, schema)
        note = " (required)" if name in required else ""
        rows.append((name, _type(root, member) + note, _first_sentence(member["description"])))
    exclusive = node.get("then", {}).get("x-exactly-one-of")
    head = "Fields" + (f", of {', '.join(exclusive)} exactly one:" if exclusive else ":")
    return [head, *_table(rows)]


def _facts(node: Tree) -> list[tuple[str, str]]:
    facts = []
    if "default" in node and node["default"] is not None:
        facts.append(("Default:", _value(node["default"])))
    if "x-default" in node:
        facts.append(("Default:", node["x-default"]))
    words = node.get("enum") or node.get("x-values") or ([node["const"]] if "const" in node else [])
    if words:
        facts.append(("Allowed:", ", ".join(str(word) for word in words if word is not None)))
    if "x-expected" in node:
        facts.append(("Write:", node["x-expected"]))
    low, high = node.get("minimum"), node.get("maximum")
    if high is not None and "x-expected" not in node:
        facts.append(("Range:", f"{low} to {high}"))
    elif low and "x-unit" not in node and "x-expected" not in node:
        facts.append(("Range:", f"at least {low}"))
    if "x-unit" in node:
        facts.append(("Unit:", _UNITS[node["x-unit"]][1]))
    if node.get("x-sensitive"):
        facts.append(("Sensitive:", "never shown, stored or logged"))
    return facts


def _list_facts(node: Tree) -> list[tuple[str, str]]:
    if "x-list" not in node:
        return []
    keys = ", ".join(node.get("x-key", ()))
    return [("List:", _LISTS[node["x-list"]].format(keys=keys))]


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _type(root: Tree, node: Tree) -> str:
    """Return the type in a few words: ``size``, ``list of text``, ``text or mapping``."""
    if "x-unit" in node:
        return _UNITS[node["x-unit"]][0]
    named = node.get("type", "string" if "const" in node else ())
    types = [named] if isinstance(named, str) else [name for name in named if name != "null"]
    words = [_type_word(root, node, name) for name in types]
    if len(words) < 2:
        return words[0] if words else "anything"
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _type_word(root: Tree, node: Tree, name: str) -> str:
    if name == "array" and "items" in node:
        return f"list of {_plural(_type(root, _resolved(root, node['items'])))}"
    if name == "object" and isinstance(node.get("additionalProperties"), dict):
        inner = _type(root, _resolved(root, node["additionalProperties"]))
        return f"mapping to {inner}"
    return _TYPES.get(name, name)


def _plural(word: str) -> str:
    return f"{word}s" if word in ("mapping", "size", "duration", "integer", "number") else word


def _resolved(root: Tree, schema: Tree) -> Tree:
    merged: Tree = {}
    while True:
        merged = {
            **schema,
            **merged,
            "properties": {**schema.get("properties", {}), **merged.get("properties", {})},
            "required": [*schema.get("required", ()), *merged.get("required", ())],
        }
        if "$ref" not in schema:
            return merged
        schema = schemas.resolve(root, schema["$ref"])


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=\.)\s", text, maxsplit=1)[0]


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=indent)


def _table(rows: Sequence[tuple[str, ...]], indent: str = "  ") -> list[str]:
    """Return *rows* with their first columns aligned and the last one wrapped."""
    widths = [max(len(row[i]) for row in rows) + 2 for i in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        head = indent + "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False))
        lines += textwrap.wrap(
            row[-1],
            max(_WIDTH, len(head) + 30),
            initial_indent=head,
            subsequent_indent=" " * len(head),
        ) or [head.rstrip()]
    return lines
