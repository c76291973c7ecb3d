"""Values from --secret-values in documents: hidden from all who look, and where they may stand.

From reading on, what such a value went into is a SecretValue in the document's tree, or a gap where
it is no single value: nothing that is said about a document can hold what is not in it. Only those
who hand content to containers ever see the bytes. Where a secret would be shown and recorded, that
is a problem, and nothing else is concluded from the place (provider.manifest.gap).
"""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

from provider.errors import Problem
from provider.manifest.document import Document, TreePath, dotted
from provider.manifest.gap import GAP
from provider.model.ids import Kind
from provider.model.secret import SecretValue
from provider.model.tree import Tree

_CONTAINERS = frozenset({Kind.CONTAINER, Kind.SERVICE, Kind.JOB})
_DATA = frozenset({Kind.CONFIG, Kind.SECRET})


def conceal(document: Document) -> Document:
    """Return *document* with its sensitive nodes hidden, and what was read from them with them."""
    outermost = frozenset(
        path
        for path in document.sensitive
        if not any(path[:end] in document.sensitive for end in range(len(path)))
    )
    tree: Any = document.tree
    for path in outermost:
        tree = _concealed(tree, path, document)
    if not isinstance(tree, dict):
        tree = {}
    metadata = tree.get("metadata")
    return dataclasses.replace(
        document,
        tree=tree,
        sensitive=outermost,
        kind=_text(tree.get("kind")),
        api_version=_text(tree.get("apiVersion")),
        name=_text(metadata.get("name")) if isinstance(metadata, dict) else "",
        written={p: text for p, text in document.written.items() if not document.is_sensitive(p)},
    )


def _concealed(node: Any, path: TreePath, document: Document, depth: int = 0) -> Any:
    """Return *node*, which is *depth* steps down *path*, with the end of that path hidden."""
    if depth == len(path):
        if isinstance(node, (str, int, float)):
            return SecretValue(document.text(path, node).encode())
        return GAP
    step = path[depth]
    hidden = _concealed(node[step], path, document, depth + 1)
    if isinstance(step, int):
        return [*node[:step], hidden, *node[step + 1 :]]
    return {**node, step: hidden}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def exposed(document: Document) -> dict[TreePath, Problem]:
    """Return the places of *document* that would show a secret, with what to say about them."""
    found = {}
    for path in sorted(document.sensitive, key=str):
        is_value = isinstance(_at(document.tree, path), SecretValue)
        if not is_value or not _is_for_secrets(document.kind, path):
            found[path] = Problem(
                "a value from --secret-values would be shown and recorded here"
                if is_value
                else "what stands here depends on --secret-values, and would show a value of them",
                document.positions.nearest(path),
                dotted(path),
                expected="secret values only in env, and in data of a Config or Secret",
            )
    return found


def _at(node: Any, path: TreePath) -> Any:
    for step in path:
        node = node[step]
    return node


def _is_for_secrets(kind: str, path: TreePath) -> bool:
    match path:
        case ("spec", "container", "env", _) | ("spec", "container", "env", _, "value"):
            return kind in _CONTAINERS
        case ("spec", "data", _) | ("spec", "data", _, "text"):
            return kind in _DATA
    return False


def for_schema(document: Document) -> Tree:
    """Return the tree of *document* with texts for what is hidden, as its schema is to see it.

    A Secret's text that is hidden does not stand in the manifest: it needs no ``allowPlaintext``.
    """
    if not document.sensitive:
        return document.tree
    numbers = itertools.count(1)

    def shown(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: shown(member) for key, member in node.items()}
        if isinstance(node, list):
            return [shown(element) for element in node]
        # No two are alike: nobody knows whether the values are.
        return f"hidden {next(numbers)}" if node is GAP or isinstance(node, SecretValue) else node

    tree: Tree = shown(document.tree)
    if document.kind == Kind.SECRET and all(
        isinstance(text, SecretValue) for text in _inline(document.tree)
    ):
        tree["spec"] = tree["spec"] | {"allowPlaintext": True}
    return tree


def _inline(tree: Tree) -> Iterator[Any]:
    """Yield the texts of a Secret that stand in its document; something else if that is no data."""
    spec = tree.get("spec")
    data = spec.get("data") if isinstance(spec, dict) else None
    if not isinstance(data, dict):
        yield None
        return
    for source in data.values():
        if isinstance(source, dict) and "text" in source:
            yield source["text"]
