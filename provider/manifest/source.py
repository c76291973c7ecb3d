"""YAML text to Documents; the only importer of yaml.

Works on libyaml's events: no node objects to make, and no recursion in C (its composer overflows
the stack on deep nesting). What the events mean is said in `builder`. After a syntax error reading
goes on at the next ``---``, so that one run shows everything that is wrong.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

import yaml

from provider.errors import ManifestError, Origin, Problem
from provider.manifest.builder import (
    ALIAS,
    DOCUMENT,
    END,
    MAPPING,
    SCALAR,
    SEQUENCE,
    BoundError,
    Builder,
    Event,
    Fault,
    Root,
)
from provider.manifest.document import Document, LineMap, Place, Positions, Reading, TreePath
from provider.manifest.files import SourceFile
from provider.manifest.syntax import SyntaxFault, Wording, decode, join_surrogates, word
from provider.manifest.taint import conceal
from provider.model.tree import Json, Tree
from runtime.record import dataclass, field

_LOADER: Any = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a template became."""

    text: str
    lines: LineMap
    substitutes: Mapping[str, str] = field(default_factory=dict)
    """Placeholder in *text* -> the secret string it stands for, put in after parsing."""
    shadow: str | None = None
    """The same rendered with other secrets: nodes that differ hold a secret. None where there are
    no secrets; empty where it could not be rendered, so that everything may hold one."""


class Renderer(Protocol):
    """What turns a template into YAML: provider.manifest.template.Template."""

    def render(self, file: SourceFile) -> Rendered | tuple[Problem, ...]:
        """Return what *file* renders to, or why it does not; nothing: that was said already."""
        ...


def read_sources(files: Iterable[SourceFile], *, renderer: Renderer | None = None) -> Reading:
    """Parse *files* into Documents in input order; templates go through *renderer* first.

    Never raises for what is in a file: whatever cannot be read is a Problem.
    """
    documents: list[Document] = []
    problems: list[Problem] = []
    unread: list[str | None] = []
    for file in files:
        reading = _read_template(file, renderer) if file.template else _read_plain(file)
        documents += reading.documents
        problems += reading.problems
        unread += reading.unread
    return Reading(tuple(documents), tuple(problems), tuple(unread))


def parse_value(text: str, *, origin: Origin) -> Json:
    """Return the YAML value *text* of a command-line option, which *origin* names.

    Raises:
        ManifestError: *text* is not one YAML value.
    """
    stream = _Stream(_Text(origin.path, text))
    roots = list(stream.roots())
    problems = [replace(problem, origin=origin) for problem in stream.problems]
    if len(roots) > 1:
        problems.append(Problem("more than one value", origin))
    if problems:
        raise ManifestError(tuple(problems))
    return roots[0].value if roots else None


def parse_mapping(
    file: SourceFile, *, confidential: bool = False
) -> tuple[Tree, tuple[Problem, ...]]:
    """Return the one mapping *file* holds (values); an empty file is an empty mapping.

    What is said about a *confidential* one does not quote it.
    """
    text = decode(file.content)
    if isinstance(text, Wording):
        return {}, (_problem_of(text, file.path),)
    text = join_surrogates(text)
    stream = _Stream(_Text(file.path, text, confidential=confidential))
    roots = list(stream.roots())
    for root in roots[1:]:
        stream.problem("more than one document", root.place)
    value = roots[0].value if roots else {}
    if not isinstance(value, dict):
        stream.problem("a values file must hold a mapping", roots[0].place)
        value = {}
    return value, tuple(stream.problems)


def _read_plain(file: SourceFile) -> Reading:
    text = decode(file.content)
    if isinstance(text, Wording):
        return Reading(problems=(_problem_of(text, file.path),), unread=(None,))
    stream = _Stream(_Text(file.path, join_surrogates(text)))
    documents = tuple(stream.documents())
    if not documents and not stream.problems:
        stream.problems.append(Problem("the file holds no document", Origin(file.path)))
    return Reading(documents, tuple(stream.problems), tuple(stream.unread))


def _problem_of(wording: Wording, path: str) -> Problem:
    return Problem(wording.message, Origin(path, *wording.place), suggestion=wording.suggestion)


def _read_template(file: SourceFile, renderer: Renderer | None) -> Reading:
    if renderer is None:
        return Reading(problems=(Problem("templates are not rendered here", Origin(file.path)),))
    rendered = renderer.render(file)
    if not isinstance(rendered, Rendered):
        return Reading(problems=rendered, unread=(None,))
    secrets = rendered.shadow is not None
    text = _Text(file.path, rendered.text, rendered.lines, rendered.substitutes, secrets)
    stream = _Stream(text)
    documents = list(stream.documents())
    if rendered.shadow is not None:
        shadow = _Stream(replace(text, text=rendered.shadow))
        trees = [document.tree for document in shadow.documents()]
        documents = [conceal(document) for document in _mark_sensitive(documents, trees)]
    return Reading(tuple(documents), tuple(stream.problems), tuple(stream.unread))


def _mark_sensitive(documents: list[Document], shadows: list[Tree]) -> list[Document]:
    """Add to each document the nodes that come out otherwise with other secrets."""
    if len(documents) != len(shadows):
        return [replace(document, sensitive=frozenset({()})) for document in documents]
    return [
        replace(
            document,
            sensitive=document.sensitive | set(_differences(document.tree, shadow, ())),
        )
        for document, shadow in zip(documents, shadows, strict=True)
    ]


def _differences(one: Json, other: Json, path: TreePath) -> Iterator[TreePath]:
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key, value in one.items():
            yield from _differences(value, other[key], (*path, key))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, value in enumerate(one):
            yield from _differences(value, other[index], (*path, index))
    elif one != other or type(one) is not type(other):
        yield path


@dataclass(frozen=True, slots=True)
class _Text:
    """What is parsed."""

    path: str
    text: str
    lines: LineMap | None = None
    substitutes: Mapping[str, str] = field(default_factory=dict)
    confidential: bool = False
    """Secrets went into the text, so no message may quote it."""


class _Stream:
    """The documents of one text; what is wrong collects in *problems* and *unread*."""

    def __init__(self, source: _Text) -> None:
        self.problems: list[Problem] = []
        self.unread: list[str | None] = []
        self._source = source

    def documents(self) -> Iterator[Document]:
        """Yield the documents that are mappings; others are problems."""
        for root in self.roots():
            if isinstance(root.value, dict):
                yield self._document(root, root.value)
            else:
                self.problem("a document must be a mapping", root.place, "begin with `apiVersion:`")
                self.unread.append(str(root.value))

    def roots(self) -> Iterator[Root]:
        """Yield the documents that are not empty; after a syntax error go on at the next one."""
        source = self._source
        text, skipped = source.text, 0
        while text:
            builder = Builder(
                _events(text, skipped),
                self._fault,
                substitutes=source.substitutes,
                confidential=source.confidential,
            )
            try:
                while (root := builder.build()) is not None:
                    if root.value is not None:
                        yield root
                return
            except yaml.MarkedYAMLError as error:
                stopped = self._syntax(error, text, skipped)
            except BoundError as error:
                self.problem(str(error), error.place)
                stopped = error.place[0] - skipped
            rest, passed = _next_document(text, stopped)
            self.unread.append(_around(text, stopped, passed))
            text = rest
            skipped += passed

    def _document(self, root: Root, tree: Tree) -> Document:
        metadata = tree.get("metadata")
        source = self._source
        return Document(
            kind=_text(tree.get("kind")),
            api_version=_text(tree.get("apiVersion")),
            name=_text(metadata.get("name")) if isinstance(metadata, dict) else "",
            tree=tree,
            positions=Positions(source.path, root.nodes, source.lines),
            origin=self._origin(root.place),
            path=source.path,
            written=root.written,
            sensitive=frozenset(root.sensitive),
            faulty=frozenset(root.faulty),
        )

    def problem(self, message: str, place: Place, suggestion: str = "") -> None:
        """Note what is wrong at *place*."""
        self.problems.append(Problem(message, self._origin(place), suggestion=suggestion))

    def _origin(self, place: Place) -> Origin:
        if self._source.lines:
            return self._source.lines.origin(place[0])
        return Origin(self._source.path, *place)

    def _fault(self, fault: Fault) -> None:
        suggestion = fault.suggestion
        if fault.earlier:
            suggestion = f"it is at {self._origin(fault.earlier)} already"
        self.problem(fault.message, fault.place, suggestion)

    def _syntax(self, error: yaml.MarkedYAMLError, text: str, skipped: int) -> int:
        """Note a syntax error of *text*, and return the line where parsing stopped."""
        start = error.context_mark
        mark = error.problem_mark or start
        fault = SyntaxFault(
            problem=error.problem or "not yaml",
            place=(mark.line + 1, mark.column + 1) if mark else (1, 1),
            context=error.context or "",
            start=(start.line + 1, start.column + 1) if start else None,
        )
        wording = word(
            fault,
            text,
            template=self._source.lines is not None,
            confidential=self._source.confidential,
            skipped=skipped,
        )
        line, column = wording.place
        self.problem(wording.message, (line + skipped, column), wording.suggestion)
        return fault.place[0]


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""


def _next_document(text: str, line: int) -> tuple[str, int]:
    """Return what starts with the first ``---`` from *line* on, and how many lines are before it.

    Nothing but the start of a document can stand there, not even inside of quotes. The first line
    of *text* is not looked at, so that each call leaves less.
    """
    lines = text.split("\n")
    for index in range(max(line - 1, 1), len(lines)):
        marker, rest = lines[index][:3], lines[index][3:].strip()
        # On the line itself, what follows the marker is what is wrong.
        if marker == "---" and (not rest or (lines[index][3] in " \t" and index >= line)):
            return "\n".join(lines[index:]), index
    return "", len(lines)


def _around(text: str, line: int, end: int) -> str:
    """Return the document that holds *line*, down to line *end*."""
    lines = text.split("\n")
    starts = [index for index in range(min(line - 1, end)) if lines[index].startswith("---")]
    return "\n".join(lines[starts[-1] if starts else 0 : end])


def _events(text: str, skipped: int) -> Iterator[Event]:
    """Yield the events of *text*, whose first line is number *skipped* + 1."""
    loader = _LOADER(text)
    try:
        while True:
            event = loader.get_event()
            mark = event.start_mark
            line, column = mark.line + skipped + 1, mark.column + 1
            match event:
                case yaml.ScalarEvent():
                    plain = event.implicit[0] and event.tag is None
                    yield Event(SCALAR, line, column, event.value, plain, event.tag, event.anchor)
                case yaml.MappingStartEvent():
                    yield Event(MAPPING, line, column, "", False, event.tag, event.anchor)
                case yaml.SequenceStartEvent():
                    yield Event(SEQUENCE, line, column, "", False, event.tag, event.anchor)
                case yaml.CollectionEndEvent():
                    yield Event(END, line, column)
                case yaml.AliasEvent():
                    yield Event(ALIAS, line, column, str(event.anchor))
                case yaml.DocumentStartEvent():
                    yield Event(DOCUMENT, line, column)
                case yaml.StreamEndEvent():
                    return
    finally:
        loader.dispose()
