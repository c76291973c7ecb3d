"""``*.yaml.j2`` to YAML text; the only importer of jinja2.

Templates run in Jinja's sandbox with undefined names as errors; they see the values and the usual
filters, but nothing random. Lists, mappings, booleans and null come out as YAML, not as Python.
``include`` and ``import`` reach files below the template's own folder.

Where a line came from: each template is marked before it is compiled (`linemap`), except inside of
macros and captured blocks, whose text filters may change: that counts as made by their caller.

Where secrets went: a secret string that is output as it is becomes a placeholder, put in after the
YAML is parsed, so that it can neither break it nor change its meaning, and is always text. What
filters and operators make of a secret (``| b64encode``, ``~``, a comparison) is ordinary text; it
is found by rendering once more with other secrets: what comes out otherwise has seen one. What
stays the same (a length, that a value is there) is not seen as secret. So it is with what is said
of a template that fails: only what would be said with other secrets too is said.
"""

import os
import secrets as tokens
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import jinja2

from provider.errors import Origin, Problem
from provider.manifest import linemap
from provider.manifest.files import STDIN, SourceFile
from provider.manifest.source import Rendered
from provider.manifest.syntax import Wording, decode
from provider.manifest.template import undefined
from provider.manifest.template.loader import Environment, Loader
from provider.manifest.template.undefined import Undefined, UndefinedNameError
from provider.manifest.template.wording import Scope, in_truth, undefined_problem, unsaid, worded
from provider.manifest.values import (
    as_text,
    as_yaml,
    disguise,
    mark,
    merge,
    placeholders,
)
from provider.model.tree import Tree
from runtime.record import dataclass

_FAILURES = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What expressions of a template can raise: Jinja's own, and Python's from filters."""


@dataclass(frozen=True, slots=True)
class Content:
    """What the content of a Config became."""

    text: str
    sensitive: bool = False


class Template:
    """Renders templates with one set of values; implements source.Renderer."""

    def __init__(self, values: Tree, *, secrets: Tree | None = None, complete: bool = True) -> None:
        """*secrets* (--secret-values) lie upon *values*; *complete*: all could be read."""
        self._complete = complete
        self._included: dict[str, bytes] = {}
        self._values = values
        self._shadow: Tree | None = None
        self._substitutes: dict[str, str] = {}
        if secrets:
            marked = mark(secrets, prefix=f"bayplan-secret-{tokens.token_hex(8)}-")
            self._values = merge(values, marked)
            self._shadow = merge(values, disguise(marked))
            self._substitutes = placeholders(marked)

    @property
    def included(self) -> Mapping[str, bytes]:
        """Files read by include and import so far, for cache keys: path -> content."""
        return self._included

    def render(self, file: SourceFile) -> Rendered | tuple[Problem, ...]:
        """Return the YAML *file* renders to, or what stopped it; nothing: that was told already."""
        text = decode(file.content)
        if isinstance(text, Wording):
            origin = Origin(file.path, *text.place)
            return (Problem(text.message, origin, suggestion=text.suggestion),)
        run = _Run(text, file.path, as_yaml, self._included, marked=True)
        output = self._render(run)
        if not isinstance(output, str):
            return output
        clean, lines = linemap.read_marks(output, file.path)
        shadow = None
        if self._shadow is not None:
            shadow = linemap.read_marks(self._render_shadow(run), "")[0]
        return Rendered(clean, lines, self._substitutes, shadow)

    def render_content(self, text: str, *, origin: Origin) -> Content | tuple[Problem, ...]:
        """Return *text*, which was written at *origin* (a Config with ``template: true``)."""
        run = _Run(text, origin.path, as_text, self._included, marked=False)
        output = self._render(run)
        if not isinstance(output, str):
            return tuple(_inside(problem, origin) for problem in output)
        if self._shadow is None:
            return Content(output)
        return Content(output, sensitive=self._render_shadow(run) != output)

    def _render(self, run: "_Run") -> str | tuple[Problem, ...]:
        try:
            return run.render(self._values, Undefined)
        except _FAILURES as error:
            return tuple(self._problems(run, error))

    def _render_shadow(self, run: "_Run") -> str:
        assert self._shadow is not None
        try:
            return run.render(self._shadow, Undefined)
        except _FAILURES:
            return ""  # what other secrets stop has seen them

    def _problems(self, run: "_Run", error: BaseException) -> list[Problem]:
        found = self._told(run, error, self._values)
        if self._shadow is None:
            return found
        otherwise: set[str] = set()
        try:
            run.render(self._shadow, Undefined)
        except _FAILURES as other:
            otherwise = {str(problem) for problem in self._told(run, other, self._shadow)}
        return [
            problem if str(problem) in otherwise else unsaid(problem, error, run.path)
            for problem in found
        ]

    def _told(self, run: "_Run", error: BaseException, values: Tree) -> list[Problem]:
        """Return what there is to say when *error* has ended a rendering with *values*."""
        environment = run.environment(Undefined)
        sources = {name: content.decode() for name, content in self._included.items()}
        sources[run.path] = run.text
        scope = Scope(tuple(values), environment, sources)
        error = in_truth(error, run.path, scope)
        undefined_name = isinstance(error, UndefinedNameError)
        if undefined_name and not self._complete:
            return []
        found = [worded(error, run.path, scope)]
        if undefined_name:
            for each, origin in run.all_undefined(values):
                problem = undefined_problem(each, origin, scope)
                if all(_place(problem) != _place(other) for other in found):
                    found.append(problem)
        return found


def _place(problem: Problem) -> tuple[str, object]:
    """Return what tells problems apart; the same in each item of a loop is one."""
    origin = problem.origin
    return problem.message, origin and (origin.path, origin.line, origin.column)


@dataclass(frozen=True, slots=True)
class _Run:
    """One text, and how it is rendered."""

    text: str
    path: str
    finalize: Callable[[Any], Any]
    included: dict[str, bytes]
    marked: bool

    def environment(self, kind: type[Undefined]) -> Environment:
        folder = None if self.path == STDIN else os.path.dirname(self.path) or "."
        loader = Loader(folder, self.included, marked=self.marked)
        return Environment(loader, self.finalize, kind)

    def render(self, values: Tree, kind: type[Undefined]) -> str:
        environment = self.environment(kind)
        return environment.loader.compile(environment, self.text, self.path).render(values)

    def all_undefined(self, values: Tree) -> list[tuple[UndefinedNameError, Origin]]:
        """Return the uses of undefined names in order, as far as rendering gets with them."""
        found: list[tuple[UndefinedNameError, Origin]] = []
        kind = undefined.noting(lambda error, origin: found.append((error, origin)))
        with suppress(*_FAILURES):  # what fails by now may well come of what is undefined
            self.render(values, kind)
        return [(error, origin) for error, origin in found if error.name]


def _inside(problem: Problem, origin: Origin) -> Problem:
    line = problem.origin.line if problem.origin else 0
    place = Origin(
        origin.path, origin.line, origin.column, f"line {line} of the content" if line else ""
    )
    return Problem(problem.message, place, suggestion=problem.suggestion)
