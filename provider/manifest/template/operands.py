"""The variables in a line of a template: which one is undefined, of what sort the others are."""

from collections.abc import Iterator, Mapping
from typing import Any

import jinja2
from jinja2 import nodes

from provider.manifest import linemap
from provider.manifest.template.undefined import Undefined
from provider.manifest.values import SecretText

WORDS: Mapping[str, str] = {
    "str": "text",
    SecretText.__name__: "text",
    "bool": "a truth value",
    "int": "a number",
    "float": "a number",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping",
    "NoneType": "nothing",
}
"""Python's name of a type -> ours."""


def operands(
    environment: jinja2.Environment, text: str, line: int, seen: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the variables in the tags on *line* of the template *text*, with their values.

    A variable is named with its members, as far as these are written out: ``image.tag``. *seen* is
    what the line could see; what is missing there is an Undefined.
    """
    try:
        tree = environment.parse(text)
    except jinja2.TemplateSyntaxError:
        return {}
    lines = linemap.tag_lines(text, line)
    found = {}
    for node in _variables(tree):
        if node.lineno in lines:
            name, value = _resolved(environment, node, seen)
            if name not in environment.globals:
                found[name] = value
    return found


def _variables(node: nodes.Node) -> Iterator[nodes.Node]:
    """Yield the longest variables in *node*: names, and members of names."""
    if _is_variable(node):
        yield node
        return
    for child in node.iter_child_nodes():
        yield from _variables(child)


def _is_variable(node: nodes.Node) -> bool:
    if isinstance(node, nodes.Getitem):
        constant = isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, (str, int))
        return constant and _is_variable(node.node)
    if isinstance(node, nodes.Getattr):
        return _is_variable(node.node)
    return isinstance(node, nodes.Name) and node.ctx == "load"


def _resolved(
    environment: jinja2.Environment, node: nodes.Node, seen: Mapping[str, Any]
) -> tuple[str, Any]:
    if isinstance(node, nodes.Name):
        return node.name, seen.get(node.name, Undefined(name=node.name))
    assert isinstance(node, (nodes.Getattr, nodes.Getitem))
    name, value = _resolved(environment, node.node, seen)
    if isinstance(node, nodes.Getattr):
        name = f"{name}.{node.attr}"
        member = value if isinstance(value, Undefined) else environment.getattr(value, node.attr)
    else:
        assert isinstance(node.arg, nodes.Const)
        name = f"{name}[{node.arg.value!r}]"
        known = isinstance(value, Undefined)
        member = value if known else environment.getitem(value, node.arg.value)
    return name, member
