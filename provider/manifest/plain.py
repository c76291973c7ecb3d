"""What a plain YAML scalar is: YAML 1.2's JSON-like reading, without the surprises of 1.1.

``true``, ``false``, ``null``, ``~`` and decimal numbers have a type; everything else is text:
``no``, ``yes``, ``on``, ``off``, ``12:30``, ``1_000``, ``0x10``, ``0o17``, ``.inf``, dates.
``022``, which is 18 to some readers and 22 to others, is neither.
"""

import re

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+\Z")

_EXACT = 2**53
_SHORT = 20
"""So long is a number that is still worth converting for people."""
"""Above it a float no longer tells integers apart."""


class AmbiguousScalarError(ValueError):
    """The text means different numbers to different readers; *suggestion* says what to write."""

    def __init__(self, message: str, suggestion: str) -> None:
        super().__init__(message)
        self.suggestion = suggestion


def resolve(text: str) -> str | int | float | bool | None:
    """Return the value of a plain (unquoted) scalar.

    Raises:
        AmbiguousScalarError: a number with a leading zero, or one too large to keep exactly.
    """
    first = text[:1]
    if first in "0123456789-+." and first:
        return _number(text)
    if text in _NULL:
        return None
    return _BOOL.get(text, text)


def _number(text: str) -> str | int | float:
    if _INTEGER.match(text):
        return int(text)
    if _LEADING_ZERO.match(text):
        raise AmbiguousScalarError("a number with a leading zero", _leading_zero(text))
    if not _FLOAT.match(text):
        return text
    value = float(text)
    if abs(value) > _EXACT:
        raise AmbiguousScalarError("a number too large to be kept exactly", "quote it")
    # 3.0 is a whole number to JSON Schema, so it must be one to whoever reads the tree.
    return int(value) if value.is_integer() else value


def _leading_zero(text: str) -> str:
    if set(text) <= set("+-01234567") and len(text) <= _SHORT:
        return f'quote it ("{text}"), or write {int(text, 8)}'
    return f'quote it ("{text}"), or drop the zero'


def written(text: str, value: str | int | float | bool | None) -> str | None:
    """Return *text* if Python would write *value* otherwise (``1.10``, ``True``), else None."""
    if value is None or isinstance(value, str):
        return None
    plain = str(value).lower() if isinstance(value, bool) else str(value)
    return None if plain == text else text
