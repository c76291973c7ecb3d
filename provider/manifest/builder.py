"""Parser events to plain data, and for each node its place. Knows YAML's rules, not its library.

* plain scalars as in `plain`; a quoted one, or one tagged ``!!str``, is text; other tags are
  refused;
* keys are text as written (``on``, ``8080``); a key that comes twice is a fault, the first counts;
* aliases are allowed, within bounds; ``<<`` merges mappings as YAML 1.1 has it (a key of the
  mapping itself wins, then the earlier of several), so that anchors are of use.

An aliased node is one Python object in several places: trees are not to be changed in place.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from provider.manifest.document import MAX_DEPTH, TOO_DEEP, Place, TreePath
from provider.manifest.plain import AmbiguousScalarError, resolve, written
from provider.model.tree import Json, Tree
from runtime.record import dataclass, field

SCALAR, ALIAS, MAPPING, SEQUENCE, END, DOCUMENT = range(6)

_TAG = "tag:yaml.org,2002:"
_KNOWN_TAGS = frozenset({None, "!", f"{_TAG}str", f"{_TAG}map", f"{_TAG}seq"})
_MAX_ALIASED_NODES = 100_000


class Event(NamedTuple):
    """One step of the parser."""

    type: int
    line: int
    """From 1, as is *column*."""
    column: int
    text: str = ""
    """Of a scalar, or the name an alias refers to."""
    plain: bool = False
    """The scalar is not quoted, and not tagged."""
    tag: str | None = None
    anchor: str | None = None


class BoundError(Exception):
    """The document is larger or deeper than it may be; it is given up."""

    def __init__(self, message: str, place: Place) -> None:
        super().__init__(message)
        self.place = place


@dataclass(frozen=True, slots=True)
class Fault:
    """One node that is wrong; the rest of the document is read all the same."""

    message: str
    place: Place
    suggestion: str = ""
    earlier: Place | None = None
    """The other place, of a key that comes twice."""


@dataclass(slots=True)
class Root:
    """One document, and what is known about its nodes."""

    place: Place
    value: Json = None
    nodes: dict[TreePath, tuple[int, int, int, int]] = field(default_factory=dict)
    """Line and column of the key, then of the value."""
    written: dict[TreePath, str] = field(default_factory=dict)
    sensitive: set[TreePath] = field(default_factory=set)
    faulty: set[TreePath] = field(default_factory=set)


class _Anchored(NamedTuple):
    """A finished node other places may refer to."""

    value: Json
    depth: int
    """Length of its path."""
    first: int
    last: int
    """Range of its nodes in the builder's list of paths."""


class _Merge(NamedTuple):
    """One ``<<`` of a mapping, read at a path of its own."""

    event: Event
    path: TreePath
    value: Json
    first: int
    last: int


class Builder:
    """Builds one document after another from *events*.

    *substitutes* maps placeholders to the secret strings put in for them. With *confidential* no
    fault quotes the text.
    """

    def __init__(
        self,
        events: Iterator[Event],
        report: Callable[[Fault], None],
        *,
        substitutes: Mapping[str, str],
        confidential: bool = False,
    ) -> None:
        self._events = events
        self._report = report
        self._substitutes = substitutes
        self._confidential = confidential
        self._root = Root((1, 1))
        self._paths: list[TreePath] = []
        self._anchors: dict[str, _Anchored | None] = {}
        """None while the node is being read."""
        self._aliased = 0

    def build(self) -> Root | None:
        """Return the next document, None after the last; the value of an empty one is None.

        Raises:
            BoundError: it is nested too deep, or its aliases stand for too much.
        """
        if next(self._events, None) is None:
            return None
        first = next(self._events)
        self._root = Root((first.line, first.column))
        self._paths = []
        self._anchors = {}
        self._aliased = 0
        self._root.value = self._node(first, (), first)
        return self._root

    def _node(self, event: Event, path: TreePath, key: Event) -> Json:
        """Return the node that starts with *event*; its place is that of *key*."""
        if event.type == ALIAS:
            return self._alias(event, path, key)
        first = len(self._paths)
        self._record(path, key, event)
        if event.tag not in _KNOWN_TAGS:
            shown = self._quoted(f"tag {str(event.tag).replace(_TAG, '!!')}", "a tag")
            self._fault(f"{shown} is not supported", event, path)
        anchor = event.anchor
        if anchor is not None:
            self._anchors[anchor] = None
        value: Json
        if event.type == SCALAR:
            value = self._scalar(event, path)
        elif len(path) >= MAX_DEPTH:
            raise BoundError(TOO_DEEP, (event.line, event.column))
        elif event.type == MAPPING:
            value = self._mapping(path)
        else:
            value = self._sequence(path)
        if anchor is not None:
            self._anchors[anchor] = _Anchored(value, len(path), first, len(self._paths))
        return value

    def _record(self, path: TreePath, key: Event, event: Event) -> None:
        self._root.nodes[path] = (key.line, key.column, event.line, event.column)
        self._paths.append(path)

    def _scalar(self, event: Event, path: TreePath) -> Json:
        if not event.plain:
            return self._substituted(event.text, path)
        try:
            value = resolve(event.text)
        except AmbiguousScalarError as error:
            suggestion = "quote it" if self._confidential else error.suggestion
            self._fault(str(error), event, path, suggestion)
            return event.text
        if isinstance(value, str):
            return self._substituted(value, path)
        literal = written(event.text, value)
        if literal is not None:
            self._root.written[path] = literal
        return value

    def _substituted(self, text: str, path: TreePath) -> str:
        for placeholder, secret in self._substitutes.items():
            if placeholder in text:
                text = text.replace(placeholder, secret)
                self._root.sensitive.add(path)
        return text

    def _sequence(self, path: TreePath) -> list[Any]:
        items: list[Any] = []
        while (event := next(self._events)).type != END:
            items.append(self._node(event, (*path, len(items)), event))
        return items

    def _mapping(self, path: TreePath) -> Tree:
        members: Tree = {}
        merges: list[_Merge] = []
        while (key := next(self._events)).type != END:
            name = self._key(key, path)
            if name == "<<" and key.plain:
                # No key is a number, so this path is nobody else's.
                source = (*path, -1 - len(merges))
                first = len(self._paths)
                value = self._node(next(self._events), source, key)
                merges.append(_Merge(key, source, value, first, len(self._paths)))
                continue
            member = (*path, name)
            if name in members:
                self._duplicate(name, key, member)
            else:
                members[name] = self._node(next(self._events), member, key)
        for merge in merges:
            self._merge(members, path, merge)
        return members

    def _key(self, key: Event, path: TreePath) -> str:
        if key.type == SCALAR:
            if not key.text:
                self._fault("an empty key", key, path)
            if any(placeholder in key.text for placeholder in self._substitutes):
                # Names are shown everywhere.
                self._fault("a secret value cannot be a key", key, path)
            return key.text
        advice = "quote a value that begins with `{`; a template is a file named *.yaml.j2"
        self._fault("a key must be text", key, path, advice)
        self._skip(key)
        return f"({key.line}:{key.column})"

    def _duplicate(self, name: str, key: Event, member: TreePath) -> None:
        line, column, _, _ = self._root.nodes[member]
        shown = self._quoted(f"key `{name}`", "a key")
        self._report(Fault(f"{shown} comes twice", (key.line, key.column), earlier=(line, column)))
        self._root.faulty.add(member)
        self._skip(next(self._events))

    def _skip(self, event: Event) -> None:
        depth = 0
        while True:
            depth += event.type in (MAPPING, SEQUENCE)
            depth -= event.type == END
            if depth == 0:
                return
            event = next(self._events)

    def _alias(self, event: Event, path: TreePath, key: Event) -> Json:
        anchored = self._anchors.get(event.text)
        if anchored is None:
            inside = event.text in self._anchors
            missing = self._quoted(f"&{event.text}", "its anchor")
            message = "inside what it names" if inside else f"without {missing} before it"
            self._fault(f"{self._quoted(f'alias *{event.text}', 'alias')} {message}", event, path)
            self._record(path, key, event)
            return None
        self._aliased += anchored.last - anchored.first
        if self._aliased > _MAX_ALIASED_NODES:
            message = f"aliases stand for more than {_MAX_ALIASED_NODES} values"
            raise BoundError(message, (event.line, event.column))
        original = self._paths[anchored.first]
        for old in self._paths[anchored.first : anchored.last]:
            if len(old) - anchored.depth + len(path) > MAX_DEPTH:
                raise BoundError(TOO_DEEP, (event.line, event.column))
            self._copy(old, path + old[anchored.depth :])
        _, _, line, column = self._root.nodes[original]
        self._root.nodes[path] = (key.line, key.column, line, column)
        return anchored.value

    def _copy(self, old: TreePath, new: TreePath) -> None:
        """Give what is known about the node at *old* to *new* too."""
        root = self._root
        if old not in root.nodes:  # a key or item that a merge took out
            return
        root.nodes[new] = root.nodes[old]
        self._paths.append(new)
        if old in root.written:
            root.written[new] = root.written[old]
        if old in root.sensitive:
            root.sensitive.add(new)

    def _merge(self, members: Tree, path: TreePath, merge: _Merge) -> None:
        """Add what *members* lacks; the nodes read for it move to where they count."""
        parts: list[tuple[TreePath, Json]] = [(merge.path, merge.value)]
        if isinstance(merge.value, list):
            parts = [((*merge.path, index), part) for index, part in enumerate(merge.value)]
        below = self._paths[merge.first : merge.last]
        for source, part in parts:
            if not isinstance(part, dict):
                self._fault("`<<` takes a mapping, or a list of them", merge.event, path)
                continue
            taken = part.keys() - members.keys()
            members.update((name, part[name]) for name in part if name in taken)
            depth = len(source)
            for old in below:
                if old[:depth] == source and len(old) > depth and old[depth] in taken:
                    self._copy(old, path + old[depth:])
        for old in below:
            self._root.nodes.pop(old, None)
            self._root.written.pop(old, None)
            self._root.sensitive.discard(old)

    def _quoted(self, text: str, otherwise: str) -> str:
        """Return *text*, which quotes the input, if that may be."""
        return otherwise if self._confidential else text

    def _fault(self, message: str, event: Event, path: TreePath, suggestion: str = "") -> None:
        self._report(Fault(message, (event.line, event.column), suggestion))
        self._root.faulty.add(path)
