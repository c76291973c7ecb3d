"""How templates are found, compiled, and marked with the lines they come from."""

import os
from collections.abc import Callable
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.loaders import split_template_path
from jinja2.sandbox import ImmutableSandboxedEnvironment

from provider.manifest import linemap
from provider.manifest.reading import LIMIT_BYTES, read_file
from provider.manifest.syntax import Wording, decode
from provider.manifest.template.undefined import Undefined

_CAPTURING = (nodes.Macro, nodes.CallBlock, nodes.FilterBlock, nodes.AssignBlock)


class Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, without what gives another output each time."""

    loader: "Loader"

    def __init__(
        self, loader: "Loader", finalize: Callable[[Any], Any], undefined: type[Undefined]
    ) -> None:
        super().__init__(
            loader=loader,
            undefined=undefined,
            finalize=finalize,
            keep_trailing_newline=True,
            trim_blocks=True,
            lstrip_blocks=True,
            autoescape=False,
        )
        del self.globals["lipsum"]
        del self.filters["random"]


class Loader(jinja2.BaseLoader):
    """Compiles templates with their lines marked, and finds what they include."""

    def __init__(self, folder: str | None, included: dict[str, bytes], *, marked: bool) -> None:
        self._folder = folder
        self._included = included
        self._marked = marked

    def compile(self, environment: Environment, text: str, path: str) -> jinja2.Template:
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
        assert isinstance(environment, Environment)
        path = self._find(name)
        try:
            content = read_file(path)
        except OSError as error:
            raise jinja2.TemplateRuntimeError(f"cannot read {path}: {error.strerror}") from error
        if len(content) > LIMIT_BYTES:
            raise jinja2.TemplateRuntimeError(f"{path} is larger than {LIMIT_BYTES >> 20} MiB")
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
