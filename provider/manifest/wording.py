"""What a schema did not allow, in words: one Failure in, Problems out. Pure.

A Failure is what a validator found, without the validator: the keyword that failed, what it asked
for, what was there instead. The schemas help with ``x-expected`` and the rest (see `schemas`), and
they have no alternatives to choose between, so a failure is always about the form that was written.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import schemas
from provider.errors import Problem
from provider.manifest import foreign
from provider.manifest.document import Document, TreePath, dotted
from provider.manifest.suggest import closest, did_you_mean, misspelt, same_word
from provider.model.tree import Json, Tree
from provider.model.units import bound_in_words
from runtime.record import dataclass

_SHOWN = 60
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

_GOT = {
    "NoneType": "nothing",
    "dict": "a mapping",
    "list": "a list",
}
_EXPECTED = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
}


_TRUTH = {
    **dict.fromkeys(("yes", "y", "on", "true"), "write true"),
    **dict.fromkeys(("no", "n", "off", "false"), "write false"),
}


@dataclass(frozen=True, slots=True)
class Failure:
    """One keyword of a schema that an instance does not meet."""

    keyword: str
    asked: Any
    """The keyword's value in the schema."""
    got: Json
    """The instance; the name itself where *of_name*."""
    path: TreePath
    schema: Tree
    """The one that has the keyword."""
    around: tuple[Tree, ...]
    """All that speak of the instance, outermost first."""
    of_name: bool = False
    """About the name of a member of the object at *path*, not about a value."""

    def hint(self, name: str) -> Any:
        """Return what the outermost schema that has *name* says there."""
        return next((schema[name] for schema in self.around if name in schema), None)


Elsewhere = Callable[[TreePath, str], str]
"""Where a field belongs that is unknown at a path, in words, or nothing."""


def problems(failure: Failure, document: Document, elsewhere: Elsewhere) -> Iterator[Problem]:
    """Yield *failure* of *document* in words; one for each unknown or missing field."""
    worder = _WORDERS.get(failure.keyword, _Worder.other)
    yield from worder(_Worder(failure, document, elsewhere))


class _Worder:
    def __init__(self, failure: Failure, document: Document, elsewhere: Elsewhere) -> None:
        self._failure = failure
        self._document = document
        self._elsewhere = elsewhere
        self._expected = failure.hint("x-expected") or ""

    def _value(self, message: str, expected: str = "", suggestion: str = "") -> Iterator[Problem]:
        """Yield a Problem with the value (or name) the failure is about."""
        failure, positions = self._failure, self._document.positions
        path = failure.path
        if failure.of_name:
            path = (*path, str(failure.got))
            origin = positions.nearest(path)
        else:
            origin = positions.value(path) if path in positions else positions.nearest(path)
        message = self._failure.hint("x-message") or message
        yield Problem(message, origin, dotted(path), expected or self._expected, suggestion)

    def _is_sensitive(self) -> bool:
        failure = self._failure
        return bool(failure.hint("x-sensitive")) or self._document.is_sensitive(failure.path)

    def _shown(self, value: Json) -> str:
        if self._is_sensitive():
            return "the value (sensitive)"
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        text = _CONTROL.sub(lambda found: json.dumps(found[0])[1:-1], text)
        return f"`{text if len(text) <= _SHOWN else text[:_SHOWN] + '...'}`"

    def unknown(self) -> Iterator[Problem]:
        """Say which fields are unknown (additionalProperties: false)."""
        failure = self._failure
        assert isinstance(failure.got, dict)
        allowed = failure.schema.get("properties", {})
        for name in failure.got.keys() - allowed.keys():
            path = (*failure.path, name)
            yield Problem(
                "unknown field",
                self._document.positions.nearest(path),
                dotted(path),
                suggestion=self._advice(name, allowed) or _choices(allowed),
            )

    def _advice(self, name: str, allowed: Mapping[str, Any]) -> str:
        same = same_word(name, allowed)
        if same:
            return f"did you mean `{same}`?"
        by_place = self._elsewhere(self._failure.path, name)
        if name == "name" and "volume" in allowed:
            return "did you mean `volume`?"
        return foreign.FIELDS.get(name) or by_place or did_you_mean(name, allowed)

    def missing(self) -> Iterator[Problem]:
        """Say which fields are missing (required)."""
        failure = self._failure
        assert isinstance(failure.got, dict)
        allowed = failure.schema.get("properties", {})
        meant = {misspelt(name, allowed) for name in failure.got.keys() - allowed.keys()}
        for name in failure.asked:
            if name not in failure.got and name not in meant:
                expected = allowed.get(name, {})
                yield Problem(
                    f"`{name}` is missing",
                    self._document.positions.nearest(failure.path),
                    dotted(failure.path),
                    expected.get("x-expected", ""),
                )

    def type(self) -> Iterator[Problem]:
        """Say what was given instead of what (type)."""
        failure = self._failure
        got, asked = failure.got, failure.asked
        types = [asked] if isinstance(asked, str) else list(asked)
        words = [_EXPECTED[name] for name in types if name != "null"]
        expected = self._expected or " or ".join(words) or "nothing"
        if not isinstance(got, (dict, list)) and got is not None:
            message = f"{self._shown(got)} is {_kind(got)}"
        else:
            message = f"{_GOT[type_name(got)]} is given"
        yield from self._value(message, expected, self._retyped(got, types))

    def _retyped(self, got: Json, types: list[str]) -> str:
        """Return how to write *got* so that it is of one of *types*, where that is plain."""
        if self._is_sensitive():
            return ""
        if types == ["array"] and "x-expected" not in self._failure.schema:
            return f"write a list: [{got}]" if isinstance(got, (str, int)) else ""
        if isinstance(got, (bool, int, float)) and "string" in types:
            text = self._document.text(self._failure.path, got)
            pattern = self._failure.hint("pattern")
            return f'quote it: "{text}"' if not pattern or re.search(pattern, text) else ""
        if not isinstance(got, str):
            return ""
        if "boolean" in types:
            return _TRUTH.get(got.lower(), "")
        if "integer" in types or "number" in types:
            return "leave out the quotes" if got.isdecimal() else ""
        if "volumes" in self._failure.path[-2:]:
            return foreign.mount(got)
        return ""

    def choice(self) -> Iterator[Problem]:
        """Say that a word is none of those allowed (enum, const)."""
        failure = self._failure
        asked = failure.asked if isinstance(failure.asked, list) else [failure.asked]
        words = [str(word) for word in asked if word is not None]
        got = str(failure.got)
        hints = failure.hint("x-hints") or {}
        suggestion = hints.get(got) or did_you_mean(got.removeprefix("CAP_"), words)
        few = len(words) <= 12
        expected = self._expected or (_alternatives(words) if few else "")
        yield from self._value(
            f"{self._shown(failure.got)} is not allowed",
            expected,
            suggestion or ("" if few else _choices(words)),
        )

    def pattern(self) -> Iterator[Problem]:
        """Say that a text does not look as it should (pattern)."""
        got = str(self._failure.got)
        values = self._failure.hint("x-values") or ()
        hints = self._failure.hint("x-hints") or {}
        suggestion = did_you_mean(got.removeprefix("SIG"), values)
        if self._failure.path[-1:] == ("image",):
            suggestion = foreign.image(got)
        elif self._failure.path[-2:-1] == ("dependsOn",):
            word, _, name = got.partition("/")
            kind = closest(word, schemas.KINDS) if name else ""
            suggestion = f"did you mean `{kind}/{name}`?" if kind else ""
        elif got.isdecimal() and "integer" in (self._failure.hint("type") or ()):
            suggestion = "leave out the quotes"
        message = f"{self._shown(got)} is not allowed"
        yield from self._value(message, suggestion=hints.get(got, suggestion))

    def range(self) -> Iterator[Problem]:
        """Say that a number is too small or too large (minimum, maximum, exclusiveMinimum)."""
        failure = self._failure
        if failure.hint(failure.keyword) != failure.asked:
            return  # Where it is used, more is asked than where it is defined.
        got = failure.got
        if isinstance(got, float) and not got.is_integer() and "number" not in failure.hint("type"):
            return  # Not a whole number, which is said already.
        unit = failure.hint("x-unit") or ""
        bound = bound_in_words(failure.keyword, failure.asked, unit)
        extreme = "large" if failure.keyword == "maximum" else "small"
        yield from self._value(
            f"{self._shown(failure.got)} is too {extreme}",
            bound if unit else self._expected or bound,
        )

    def size(self) -> Iterator[Problem]:
        """Say that there is nothing in it, or too much (minItems, minLength, ...)."""
        failure = self._failure
        if failure.keyword.startswith("max"):
            yield from self._value(f"longer than {failure.asked} characters")
        else:
            thing = {"minItems": "list", "minProperties": "mapping"}.get(failure.keyword, "text")
            yield from self._value(f"the {thing} is empty")

    def unique(self) -> Iterator[Problem]:
        """Say which items come twice (uniqueItems)."""
        failure = self._failure
        assert isinstance(failure.got, list)
        seen: list[Json] = []
        for index, element in enumerate(failure.got):
            if element in seen:
                path = (*failure.path, index)
                origin = self._document.positions.nearest(path)
                yield Problem(f"{self._shown(element)} comes twice", origin, dotted(path))
            seen.append(element)

    def exactly_one(self) -> Iterator[Problem]:
        """Say that none is given, or which is one too many (oneOf, x-exactly-one-of)."""
        failure = self._failure
        assert isinstance(failure.got, dict)
        names = failure.schema["x-exactly-one-of"]
        given = [name for name in names if failure.got.get(name) is not None]
        expected = f"exactly one of {', '.join(names)}"
        if not given:
            known = {name for schema in failure.around for name in schema.get("properties", ())}
            if failure.got.keys() - known:  # misspelt, and said so already
                return
            origin = self._document.positions.nearest(failure.path)
            yield Problem(_none_of(names), origin, dotted(failure.path), expected)
            return
        # The second one is the one too many.
        path = (*failure.path, given[1])
        yield Problem(
            f"`{given[1]}` besides `{given[0]}`",
            self._document.positions.nearest(path),
            dotted(path),
            expected,
        )

    def other(self) -> Iterator[Problem]:
        """Say that it is not allowed, for a keyword without words of its own."""
        yield from self._value(f"{self._shown(self._failure.got)} is not allowed")


_WORDERS: dict[str, Callable[[_Worder], Iterator[Problem]]] = {
    "additionalProperties": _Worder.unknown,
    "required": _Worder.missing,
    "type": _Worder.type,
    "enum": _Worder.choice,
    "const": _Worder.choice,
    "pattern": _Worder.pattern,
    "minimum": _Worder.range,
    "maximum": _Worder.range,
    "exclusiveMinimum": _Worder.range,
    "minItems": _Worder.size,
    "minLength": _Worder.size,
    "minProperties": _Worder.size,
    "maxLength": _Worder.size,
    "uniqueItems": _Worder.unique,
    "oneOf": _Worder.exactly_one,
}


def type_name(value: Json) -> str:
    """Return Python's name of the type of *value*."""
    return type(value).__name__


def _kind(value: Json) -> str:
    if isinstance(value, bool):
        return "a truth value"
    return "text" if isinstance(value, str) else "a number"


def _none_of(names: list[str]) -> str:
    return f"none of {', '.join(f'`{name}`' for name in names)} is given"


def _alternatives(words: list[str]) -> str:
    if len(words) == 1:
        return words[0]
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _choices(words: Any) -> str:
    names = sorted(words)
    return f"one of: {', '.join(names)}" if names else ""
