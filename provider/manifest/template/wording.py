"""What stopped a template, in words, with its place and a suggestion."""

import re
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import jinja2
from jinja2 import nodes

from provider.errors import Origin, Problem
from provider.manifest import linemap
from provider.manifest.suggest import did_you_mean
from provider.manifest.template.loader import Environment
from provider.manifest.template.operands import WORDS, operands
from provider.manifest.template.undefined import Undefined, UndefinedNameError, loop_note
from runtime.record import dataclass


def worded(error: BaseException, path: str, scope: "Scope") -> Problem:
    """Return what stopped the template *path* in words, at the innermost line it happened in."""
    if isinstance(error, jinja2.TemplateSyntaxError):
        origin = Origin(error.filename or error.name or path, error.lineno)
        message = _sentence(error.message or "")
        return Problem(f"template: {message}", origin, suggestion=scope.word_nearest(message))
    origin, seen = _innermost(error.__traceback__, path)
    if isinstance(error, UndefinedNameError):
        return undefined_problem(error, origin, scope)
    if isinstance(error, jinja2.TemplateError):
        return Problem(f"template: {_sentence(error.message or '')}", origin)
    text = re.sub(r"\b(?:do|test)_(\w+)\(\)", r"`\1`", str(error))
    if isinstance(error, TypeError) and _TYPE.search(text):
        advice = _of_what_sort(text, scope.operands(origin, seen))
        text = _TYPE.sub(lambda found: WORDS[found[2] or found[3]], text)
        return Problem(f"template: {_sentence(text)}", origin, suggestion=advice)
    return Problem(f"template: {_sentence(text)}", origin)


_TYPE = re.compile(
    rf"""(?:object of )?(?:\btype )?(?:(['"])({"|".join(WORDS)})\1"""
    r"""|\b(str|SecretText|int|float|NoneType)\b(?!\())(?: object)?"""
)
"""A type in what Python says."""


def _of_what_sort(text: str, operands: Mapping[str, Any]) -> str:
    """Return of what sort *operands* are, one of which is of the wrong one."""
    sorts = {name: WORDS.get(type(value).__name__) for name, value in operands.items()}
    said = ", ".join(f"`{name}` is {sort}" for name, sort in sorts.items() if sort)
    texts = [name for name, sort in sorts.items() if sort == "text"]
    if len(texts) == 1 and "as an integer" in text:
        said += f": give a number, or write `{texts[0]} | int`"
    return said


def in_truth(error: BaseException, path: str, scope: "Scope") -> BaseException:
    """Return that a name is undefined where *error* says so as Python does, else *error*."""
    if isinstance(error, jinja2.TemplateError) or "Undefined" not in str(error):
        return error
    for value in scope.operands(*_innermost(error.__traceback__, path)).values():
        if isinstance(value, Undefined):
            told = value._undefined_exception(value._undefined_message)
            return told.with_traceback(error.__traceback__)
    return error


def unsaid(problem: Problem, error: BaseException, path: str) -> Problem:
    """Return *problem* of the template *path*, which would show a secret, without what it says."""
    origin = problem.origin if problem.origin and problem.origin.path == path else Origin(path)
    if isinstance(error, UndefinedNameError):
        return Problem("a name is undefined, and comes from --secret-values", origin)
    fault = f"template: {type(error).__name__}; its text would show a value from --secret-values"
    return Problem(fault, origin)


@dataclass(frozen=True, slots=True)
class Scope:
    """What templates see, for suggestions."""

    names: Sequence[str]
    environment: Environment
    sources: Mapping[str, str]
    """The texts of all templates that took part, by path."""

    def operands(self, origin: Origin, seen: Mapping[str, Any]) -> dict[str, Any]:
        """Return the variables at *origin*, where *seen* could be seen, with their values."""
        text = self.sources.get(origin.path, "")
        return operands(self.environment, text, origin.line, seen)

    def nearest(self, name: str, text: str) -> str:
        """Return a suggestion for a variable, from the values and what *text* defines."""
        try:
            tree = self.environment.parse(text)
        except jinja2.TemplateSyntaxError:
            return did_you_mean(name, self.names)
        own = [node.name for node in tree.find_all(nodes.Name) if node.ctx != "load"]
        return did_you_mean(name, (*self.names, *own))

    def word_nearest(self, message: str) -> str:
        """Return a suggestion for a filter or test that is none, if *message* is about one."""
        found = re.match(r"no (filter|test) named '(\w+)'", message)
        if not found:
            return ""
        known = self.environment.filters if found[1] == "filter" else self.environment.tests
        return did_you_mean(found[2], known)


def _sentence(message: str) -> str:
    return message.rstrip(".")[:1].lower() + message.rstrip(".")[1:]


def _innermost(trace: TracebackType | None, path: str) -> tuple[Origin, Mapping[str, Any]]:
    """Return the place of the last template frame, and the variables it saw.

    Jinja shows them as frames of their own.
    """
    origin, seen = Origin(path), {}
    while trace is not None:
        frame = trace.tb_frame
        if "__jinja_exception__" in frame.f_globals:
            seen = frame.f_locals
            note = loop_note(seen.get("loop"))
            origin = Origin(frame.f_code.co_filename, trace.tb_lineno, note=note)
        trace = trace.tb_next
    return origin, seen


def undefined_problem(error: UndefinedNameError, origin: Origin, scope: Scope) -> Problem:
    """Return in words that a name is undefined in the line that *origin* tells."""
    text = scope.sources.get(origin.path, "")
    name = error.name
    found = linemap.find_name(name, text, origin.line)
    if found:
        name, line, column = found
        origin = Origin(origin.path, line, column, origin.note)
    if error.choices is None:
        suggestion = scope.nearest(error.name, text)
        suggestion = suggestion or f"give it with --set {error.name}=... or --values"
    else:
        suggestion = did_you_mean(error.name, error.choices)
        if not suggestion and error.choices:
            suggestion = f"it has: {', '.join(sorted(error.choices)[:_SHOWN])}"
    return Problem(f"`{name}` is undefined", origin, suggestion=suggestion)


_SHOWN = 8
