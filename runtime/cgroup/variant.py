"""Values in GVariant's text form, as annotations hold properties of systemd. Pure.

``true``, ``5``, ``uint64 5``, ``'text'``, ``['a.service', 'b.service']``: what is no base type or
list of one is refused.

Source: GVariant text format (GLib reference), D-Bus specification (type system).
"""

import re

from runtime.errors import ContainerError

_TYPES = {
    "boolean": "b",
    "byte": "y",
    "int16": "n",
    "uint16": "q",
    "int32": "i",
    "uint32": "u",
    "int64": "x",
    "uint64": "t",
    "double": "d",
    "string": "s",
    "objectpath": "o",
}
_WORD = re.compile(r"""\s*(?:(\[|\]|,)|('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|([^\s,\[\]'"]+))""")
_ESCAPE = re.compile(r"\\(.)")
PREFIX = "org.systemd.property."
"""Of annotations that give properties of systemd."""
_PROPERTY = re.compile(r"[A-Z][A-Za-z0-9]*")

Value = tuple[str, object]
"""D-Bus signature, and what it is of."""


def annotated_properties(annotations: dict[str, str]) -> list[tuple[str, Value]]:
    """Return the properties that ``org.systemd.property.NAME`` annotations give.

    Seconds (``TimeoutStopSec``) become what D-Bus has, microseconds.

    Raises:
        ContainerError: a name or value that is none.
    """
    found = []
    for key, text in annotations.items():
        if not key.startswith(PREFIX):
            continue
        name = key.removeprefix(PREFIX)
        if not _PROPERTY.fullmatch(name):
            raise ContainerError(f"annotation {key}: that is no name of a property")
        try:
            signature, value = parse_variant(text)
        except ContainerError as error:
            raise ContainerError(f"annotation {key}: {error}") from error
        if name.endswith("Sec") and isinstance(value, (int, float)) and signature != "b":
            name, signature, value = f"{name[:-3]}USec", "t", int(value * 1_000_000)
        found.append((name, (signature, value)))
    return found


def parse_variant(text: str) -> Value:
    """Return the value *text* is of.

    Raises:
        ContainerError: it is none we know the form of.
    """
    words = _words(text)
    found = _value(words, text)
    if words:
        raise ContainerError(f"{text!r} goes on after its value")
    return found


def _words(text: str) -> list[str]:
    """Return the words in *text*, the first at the end."""
    words = []
    position = 0
    while text[position:].strip():
        match = _WORD.match(text, position)
        if match is None:
            raise ContainerError(f"{text!r} is no value")
        words.append(match.group().strip())
        position = match.end()
    return words[::-1]


def _value(words: list[str], text: str) -> Value:
    if not words:
        raise ContainerError(f"{text!r} has no value")
    word = words.pop()
    if word == "[":
        return _array(words, text)
    if word in _TYPES:
        signature = _TYPES[word]
        return signature, _typed(signature, _value(words, text)[1], text)
    if word[0] in "'\"":
        return "s", _ESCAPE.sub(r"\1", word[1:-1])
    if word in ("true", "false"):
        return "b", word == "true"
    try:
        return ("d", float(word)) if "." in word else ("i", int(word, 0))
    except ValueError:
        raise ContainerError(f"{text!r} is no value") from None


def _array(words: list[str], text: str) -> Value:
    items: list[Value] = []
    while words and words[-1] != "]":
        if items and words.pop() != ",":
            raise ContainerError(f"{text!r} lacks a comma")
        items.append(_value(words, text))
    if not words:
        raise ContainerError(f"{text!r} has a list without an end")
    words.pop()
    # The type of the first is that of all: [uint64 1, 2].
    signature = items[0][0] if items else "s"
    return f"a{signature}", [_typed(signature, value, text) for _, value in items]


def _typed(signature: str, value: object, text: str) -> object:
    kinds: dict[str, type | tuple[type, ...]] = {"b": bool, "d": (int, float), "s": str, "o": str}
    if signature[0] == "a":
        return value
    if not isinstance(value, kinds.get(signature, int)) or (
        isinstance(value, bool) and signature != "b"
    ):
        raise ContainerError(f"{text!r} holds values of more than one type")
    return value
