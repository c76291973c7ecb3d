"""Values for templates: from files, from ``--set``, and secret ones."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from provider.errors import ManifestError, Origin, Problem
from provider.manifest.files import SourceFile
from provider.manifest.source import parse_mapping, parse_value
from provider.model.tree import Json, Tree

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")


class SecretText(str):
    """A secret string among the values.

    Operators and filters make plain strings of it. Output as it is, it becomes *placeholder*, so
    that no character of a secret can break or change the YAML it is put into.
    """

    __slots__ = ("placeholder",)

    placeholder: str


def secret_text(value: str, placeholder: str) -> SecretText:
    """Return *value* as a secret that is output as *placeholder*."""
    text = SecretText(value)
    text.placeholder = placeholder
    return text


def read_values(
    *, files: Iterable[SourceFile] = (), sets: Iterable[str] = (), confidential: bool = False
) -> tuple[Tree, tuple[Problem, ...]]:
    """Return the values of *files*, later over earlier, and of *sets* (``a.b=1``) over them.

    Mappings merge deeply, anything else is replaced. A set value is YAML (``2``, ``[a, b]``);
    nothing after the ``=`` is the empty string. What is wrong with *confidential* files is said
    without quoting them.
    """
    values: Tree = {}
    problems: list[Problem] = []
    for file in files:
        mapping, found = parse_mapping(file, confidential=confidential)
        values = merge(values, mapping)
        problems += found
    given: dict[str, str] = {}
    for text in sets:
        name = text.partition("=")[0]
        try:
            tree = parse_set(text)
            problems += _given_twice(name, text, given)
            values = merge(values, tree)
        except ManifestError as error:
            problems += error.problems
    return values, tuple(problems)


def _given_twice(name: str, text: str, given: dict[str, str]) -> Iterator[Problem]:
    """Yield a problem if *name*, or something it holds or that holds it, is in *given*."""
    for earlier, assignment in given.items():
        if f"{name}.".startswith(f"{earlier}.") or f"{earlier}.".startswith(f"{name}."):
            yield Problem(
                f"given twice: {assignment}, then {text}",
                Origin(f"--set {name}"),
                suggestion="keep one of them",
            )
    given[name] = text


def parse_set(text: str) -> Tree:
    """Return ``a.b=1`` as ``{"a": {"b": 1}}``.

    Raises:
        ManifestError: there is no ``=``, a name is none, or the value is not YAML.
    """
    names, equals, value = text.partition("=")
    origin = Origin(f"--set {names}")
    steps = names.split(".")
    if not equals or not all(map(_NAME.match, steps)):
        problem = Problem(
            "not an assignment",
            Origin(f"--set {text}"),
            expected="NAME=VALUE, with a name such as web.port",
        )
        raise ManifestError((problem,))
    tree: Json = parse_value(value, origin=origin) if value else ""
    for step in reversed(steps):
        tree = {step: tree}
    assert isinstance(tree, dict)
    return tree


def merge(base: Tree, over: Tree) -> Tree:
    """Return *base* with *over* laid upon it; mappings merge deeply, anything else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(below, dict) and isinstance(value, dict)
        merged[key] = merge(below, value) if both else value  # type: ignore[arg-type]  # narrowed
    return merged


def mark(secrets: Json, *, prefix: str) -> Any:
    """Return *secrets* with SecretText for text; placeholders are *prefix*, a number, and ``x``."""
    return _mark(secrets, prefix, [])


def _mark(value: Json, prefix: str, seen: list[str]) -> Any:
    if isinstance(value, dict):
        return {key: _mark(item, prefix, seen) for key, item in value.items()}
    if isinstance(value, list):
        return [_mark(item, prefix, seen) for item in value]
    if isinstance(value, str):
        seen.append(value)
        # The x ends the number: no placeholder is the beginning of another.
        return secret_text(value, f"{prefix}{len(seen)}x")
    return value


def disguise(value: Json) -> Any:
    """Return other values of the same shape, for telling where the real ones went.

    Every letter and digit becomes another of its kind; punctuation, length, keys and number of
    items stay, so that what splits, pads or checks a value still works.
    """
    if isinstance(value, dict):
        return {key: disguise(item) for key, item in value.items()}
    if isinstance(value, list):
        return [disguise(item) for item in value]
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        other = "".join(map(_another, value))
        if other == value:  # nothing but punctuation
            other = "x" * len(value)
        return secret_text(other, value.placeholder) if isinstance(value, SecretText) else other
    return value


def _another(character: str) -> str:
    """Return another letter or digit, of the same case; other characters as they are."""
    if not character.isalnum():
        return character
    for first, count, by in (("a", 26, 11), ("A", 26, 7), ("0", 10, 3)):
        place = ord(character) - ord(first)
        if 0 <= place < count:
            return chr(ord(first) + (place + by) % count)
    return "ö" if character != "ö" else "ä"


def placeholders(value: Any) -> dict[str, str]:
    """Return placeholder -> secret string of everything in *value*."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return {name: text for item in value for name, text in placeholders(item).items()}
    return {value.placeholder: str(value)} if isinstance(value, SecretText) else {}


def as_yaml(value: Any) -> Any:
    """Return what a template writes for *value* into YAML."""
    if isinstance(value, SecretText):
        return value.placeholder
    if value is None or isinstance(value, (bool, list, tuple, dict)):
        return json.dumps(_with_placeholders(value), ensure_ascii=False, default=str)
    return value


def as_text(value: Any) -> Any:
    """Return what a template writes for *value* into any text."""
    if value is None or isinstance(value, (bool, list, tuple, dict)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return value


def _with_placeholders(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(as_yaml(key)): _with_placeholders(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_placeholders(item) for item in value]
    return value.placeholder if isinstance(value, SecretText) else value
