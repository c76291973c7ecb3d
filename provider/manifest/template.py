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
stays the same (a length, that a value is there) is not seen as secret.
"""

import os
import re
import secrets as tokens
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.loaders import split_template_path
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from provider.errors import Origin, Problem
from provider.manifest import linemap
from provider.manifest.files import STDIN, SourceFile
from provider.manifest.source import Rendered
from provider.manifest.suggest import did_you_mean
from provider.manifest.syntax import Wording, decode
from provider.manifest.values import (
    as_text,
    as_yaml,
    disguise,
    leaves,
    mark,
    merge,
    placeholders,
)
from provider.model.tree import Tree
from runtime.record import dataclass

_CAPTURING = (nodes.Macro, nodes.CallBlock, nodes.FilterBlock, nodes.AssignBlock)
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
        self._hidden: tuple[str, ...] | None = None
        if secrets:
            marked = mark(secrets, prefix=f"bayplan-secret-{tokens.token_hex(8)}-")
            self._values = merge(values, marked)
            self._shadow = merge(values, disguise(marked))
            self._substitutes = placeholders(marked)
            self._hidden = leaves(secrets)

    @property
    def included(self) -> Mapping[str, bytes]:
        """Files read by include and import so far, for cache keys: path -> content."""
        return self._included

    def render(self, file: SourceFile) -> Rendered | Problem | None:
        """Return the YAML *file* renders to, or what stopped it; None: that was told already."""
        text = decode(file.content)
        if isinstance(text, Wording):
            origin = Origin(file.path, *text.place)
            return Problem(text.message, origin, suggestion=text.suggestion)
        environment = self._environment(file.path, as_yaml, marked=True)
        output = self._run(environment, text, file.path, self._values)
        if not isinstance(output, str):
            return output
        clean, lines = linemap.read_marks(output, file.path)
        shadow = None
        if self._shadow is not None:
            other = self._run(environment, text, file.path, self._shadow)
            shadow = linemap.read_marks(other, "")[0] if isinstance(other, str) else ""
        return Rendered(clean, lines, self._substitutes, shadow)

    def render_content(self, text: str, *, origin: Origin) -> Content | Problem | None:
        """Return *text*, which was written at *origin* (a Config with ``template: true``)."""
        environment = self._environment(origin.path, as_text, marked=False)
        output = self._run(environment, text, origin.path, self._values)
        if not isinstance(output, str):
            return output and _inside(output, origin)
        if self._shadow is None:
            return Content(output)
        shadow = self._run(environment, text, origin.path, self._shadow)
        return Content(output, sensitive=shadow != output)

    def _environment(
        self, path: str, finalize: Callable[[Any], Any], *, marked: bool
    ) -> "_Environment":
        folder = None if path == STDIN else os.path.dirname(path) or "."
        return _Environment(_Loader(folder, self._included, marked=marked), finalize)

    def _run(
        self, environment: "_Environment", text: str, path: str, values: Tree
    ) -> str | Problem | None:
        try:
            template = environment.loader.compile(environment, text, path)
            return template.render(values)
        except _FAILURES as error:
            if isinstance(error, _UndefinedNameError) and not self._complete:
                return None
            sources = {name: content.decode() for name, content in self._included.items()}
            scope = _Scope(tuple(values), environment, self._hidden)
            return _problem(error, path, sources | {path: text}, scope)


class _Environment(ImmutableSandboxedEnvironment):
    loader: "_Loader"

    def __init__(self, loader: "_Loader", finalize: Callable[[Any], Any]) -> None:
        super().__init__(
            loader=loader,
            undefined=_Undefined,
            finalize=finalize,
            keep_trailing_newline=True,
            trim_blocks=True,
            lstrip_blocks=True,
            autoescape=False,
        )
        # The same input gives the same output, always.
        del self.globals["lipsum"]
        del self.filters["random"]


class _UndefinedNameError(jinja2.UndefinedError):
    """An undefined name was used; *choices* are those of its object, None for a variable."""

    def __init__(self, message: str | None, name: str, choices: tuple[str, ...] | None) -> None:
        super().__init__(message)
        self.name = name
        self.choices = choices


class _Undefined(jinja2.StrictUndefined):
    __slots__ = ()

    def __init__(
        self,
        hint: str | None = None,
        obj: Any = jinja2.utils.missing,
        name: str | None = None,
        exc: type[jinja2.TemplateRuntimeError] = jinja2.UndefinedError,
    ) -> None:
        super().__init__(hint, obj, name, exc)
        if exc is jinja2.UndefinedError and name is not None:
            choices = None if obj is jinja2.utils.missing else _keys(obj)

            def error(message: str | None = None) -> _UndefinedNameError:
                return _UndefinedNameError(message, str(name), choices)

            # Jinja only ever calls it with the message.
            self._undefined_exception = error  # type: ignore[assignment]  # a callable will do


def _keys(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, Mapping) else ()


class _Loader(jinja2.BaseLoader):
    """Compiles templates with their lines marked, and finds what they include."""

    def __init__(self, folder: str | None, included: dict[str, bytes], *, marked: bool) -> None:
        self._folder = folder
        self._included = included
        self._marked = marked

    def compile(self, environment: _Environment, text: str, path: str) -> jinja2.Template:
        """Return the template *text* of the file *path*."""
        if "\0" in text:
            raise jinja2.TemplateSyntaxError(
                "a NUL character", text[: text.index("\0")].count("\n") + 1
            )
        tree = environment.parse(text, path, path)
        if self._marked:
            _Marker(environment, path).visit_all(tree.body)
        code = environment.compile(tree, path, path)
        return environment.template_class.from_code(
            environment, code, environment.make_globals(None)
        )

    def load(
        self,
        environment: jinja2.Environment,
        name: str,
        globals: Any = None,
    ) -> jinja2.Template:
        """Return the template that an include or import calls *name*."""
        assert isinstance(environment, _Environment)
        path = self._find(name)
        try:
            with open(path, "rb") as file:
                content = file.read()
        except OSError as error:
            raise jinja2.TemplateRuntimeError(f"cannot read {path}: {error.strerror}") from error
        text = decode(content)
        if isinstance(text, Wording):
            raise jinja2.TemplateRuntimeError(f"{path}:{text.place[0]}: {text.message}")
        self._included[path] = content
        return self.compile(environment, text, path)

    def _find(self, name: str) -> str:
        if self._folder is None:
            raise jinja2.TemplateRuntimeError("a template on standard input can include no files")
        try:
            steps = split_template_path(name)
        except jinja2.TemplateNotFound:
            steps = []
        path = os.path.normpath(os.path.join(self._folder, *steps))
        root = os.path.realpath(self._folder)
        if not steps or not os.path.realpath(path).startswith(os.path.join(root, "")):
            raise jinja2.TemplateRuntimeError(f"{name} is outside of the template's folder")
        return path


class _Marker:
    """Puts marks into the output of a parsed template, in place."""

    def __init__(self, environment: jinja2.Environment, path: str) -> None:
        self._environment = environment
        self._path = path

    def visit_all(self, body: list[nodes.Node]) -> None:
        """Mark the statements *body* and what is inside of them."""
        for node in body:
            if isinstance(node, nodes.Output):
                node.nodes = [part for child in node.nodes for part in self._marked(child)]
            elif not isinstance(node, _CAPTURING):
                self._visit(node)

    def _visit(self, node: nodes.Node) -> None:
        for field in node.fields:
            value = getattr(node, field)
            if isinstance(value, list) and value and isinstance(value[0], nodes.Stmt):
                self.visit_all(value)
        if isinstance(node, nodes.For):
            node.body = [self._enter(node.lineno), *node.body, self._output(linemap.LOOP_EXIT)]

    def _marked(self, node: nodes.Expr) -> list[nodes.Expr]:
        line = node.lineno
        mark = self._data(linemap.line_mark(line, self._path), line)
        if not isinstance(node, nodes.TemplateData):
            return [mark, node]
        text = linemap.line_mark(line, self._path)
        for part in node.data.splitlines(keepends=True):
            text += part
            if part.endswith("\n"):
                line += 1
                text += linemap.line_mark(line, self._path)
        return [self._data(text, node.lineno)]

    def _enter(self, line: int) -> nodes.Output:
        before, after = linemap.LOOP_ENTER
        index = nodes.Getattr(nodes.Name("loop", "load"), "index", "load")
        output = nodes.Output([self._data(before, line), index, self._data(after, line)])
        return output.set_lineno(line, override=True).set_environment(self._environment)  # type: ignore[return-value]  # returns itself

    def _output(self, text: str) -> nodes.Output:
        output = nodes.Output([self._data(text, 1)])
        return output.set_lineno(1).set_environment(self._environment)  # type: ignore[return-value]  # returns itself

    def _data(self, text: str, line: int) -> nodes.TemplateData:
        data = nodes.TemplateData(text, lineno=line)
        data.set_environment(self._environment)
        return data


def _problem(
    error: BaseException, path: str, sources: Mapping[str, str], scope: "_Scope"
) -> Problem:
    """Return *error* in words, at the innermost template line it happened in.

    *sources* are the texts of all templates that took part.
    """
    if isinstance(error, jinja2.TemplateSyntaxError):
        origin = Origin(error.filename or error.name or path, error.lineno)
        message = _sentence(error.message or "")
        return Problem(f"template: {message}", origin, suggestion=scope.word_nearest(message))
    origin = _innermost(error.__traceback__, path)
    if isinstance(error, _UndefinedNameError):
        return _undefined(error, origin, sources, scope)
    if isinstance(error, jinja2.TemplateError):
        message = _sentence(error.message or "")
        if not any(secret in message for secret in scope.hidden or ()):
            return Problem(f"template: {message}", origin)
    if scope.hidden is not None:
        return Problem(f"template: {type(error).__name__}", origin)
    text = re.sub(r"\b(?:do|test)_(\w+)\(\)", r"`\1`", str(error))
    return Problem(f"template: {_sentence(text)}", origin)


@dataclass(frozen=True, slots=True)
class _Scope:
    """What templates see, for suggestions."""

    names: Sequence[str]
    environment: _Environment
    hidden: tuple[str, ...] | None
    """Texts of secrets: a value may be in the text of an error, so with secrets only what cannot
    hold one is repeated. None: there are none."""

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


def _innermost(trace: TracebackType | None, path: str) -> Origin:
    """Return the place of the last template frame; Jinja shows them as frames of their own."""
    origin = Origin(path)
    while trace is not None:
        frame = trace.tb_frame
        if "__jinja_exception__" in frame.f_globals:
            loop = frame.f_locals.get("loop")
            note = f"loop item {loop.index}" if isinstance(loop, LoopContext) else ""
            origin = Origin(frame.f_code.co_filename, trace.tb_lineno, note=note)
        trace = trace.tb_next
    return origin


def _undefined(
    error: _UndefinedNameError, origin: Origin, sources: Mapping[str, str], scope: _Scope
) -> Problem:
    text = sources.get(origin.path, "")
    name = error.name
    found = linemap.find_name(name, text, origin.line)
    if scope.hidden is not None and not found:  # a name that was computed, from a secret perhaps
        return Problem("a name is undefined", origin)
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


def _inside(problem: Problem, origin: Origin) -> Problem:
    line = problem.origin.line if problem.origin else 0
    place = Origin(
        origin.path, origin.line, origin.column, f"line {line} of the content" if line else ""
    )
    return Problem(problem.message, place, suggestion=problem.suggestion)
