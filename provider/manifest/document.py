"""What reading yields: plain data, and for every node of it the place it was written at.

The story: `files` reads bytes, `template` renders ``*.yaml.j2``, `source` parses, `validate`
judges; all of them speak of Documents and Problems and none raises for what a user wrote, so that
one run can show everything that is wrong. This module knows neither YAML nor schemas.
"""

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from provider.errors import Origin, Problem
from provider.model.tree import Tree, item, join
from runtime.record import dataclass, field

TreePath: TypeAlias = tuple[str | int, ...]
"""Keys and list positions from the root of a document: ``("spec", "publish", 0, "port")``."""

Place: TypeAlias = tuple[int, int]
"""Line and column, both from 1."""

MAX_DEPTH = 64
TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"


@dataclass(frozen=True, slots=True)
class LineMap:
    """Where the lines of a rendered text came from; element 0 stands for line 1."""

    origins: tuple[Origin, ...]

    def origin(self, line: int) -> Origin:
        """Return the template's line behind output line *line* (from 1, clamped)."""
        return self.origins[min(max(line, 1), len(self.origins)) - 1]


class Positions(Mapping[TreePath, Origin]):
    """Path -> origin of each node: of the key for a member of an object, else of the value.

    Origins are made when asked for; what is kept are line and column numbers.
    """

    __slots__ = ("_lines", "_nodes", "_path")

    def __init__(
        self,
        path: str,
        nodes: Mapping[TreePath, tuple[int, int, int, int]],
        lines: LineMap | None = None,
    ) -> None:
        """*nodes* holds line and column of the key, then of the value."""
        self._path = path
        self._nodes = nodes
        self._lines = lines

    def __getitem__(self, path: TreePath) -> Origin:
        line, column, _, _ = self._nodes[path]
        return self._origin(line, column)

    def __iter__(self) -> Iterator[TreePath]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, path: object) -> bool:
        return path in self._nodes

    def value(self, path: TreePath) -> Origin:
        """Return where the value at *path* starts (KeyError if there is no such node)."""
        _, _, line, column = self._nodes[path]
        return self._origin(line, column)

    def nearest(self, path: TreePath) -> Origin:
        """Return the origin of *path*, or of its nearest ancestor that was written."""
        while path not in self._nodes and path:
            path = path[:-1]
        return self[path]

    def _origin(self, line: int, column: int) -> Origin:
        # A column of rendered text means nothing in the template.
        return self._lines.origin(line) if self._lines else Origin(self._path, line, column)


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document, as written: nothing is expanded, defaulted or resolved."""

    kind: str
    """As written; "" where it is absent or not a string. May be no Kind we know."""
    api_version: str
    name: str
    """``metadata.name``, "" where it is absent or not a string."""
    tree: Tree
    """The whole document, ``apiVersion`` and ``metadata`` included. Keys are strings always."""
    positions: Positions
    origin: Origin
    """Where the document starts."""
    path: str = ""
    """The file it was read from, ``-`` for standard input; relative paths in it start there."""
    written: Mapping[TreePath, str] = field(default_factory=dict)
    """Text of numbers and booleans that Python would write otherwise: ``1.10``, ``True``."""
    sensitive: frozenset[TreePath] = frozenset()
    """Nodes a value from --secret-values went into, which are hidden in *tree*
    (provider.manifest.taint); whatever is below them is sensitive too."""
    faulty: frozenset[TreePath] = frozenset()
    """Nodes the reader has complained about already; nobody else needs to."""

    def is_sensitive(self, path: TreePath) -> bool:
        """True if a secret value went into the node at *path* or one above it."""
        return any(path[:end] in self.sensitive for end in range(len(path) + 1))

    def text(self, path: TreePath, value: str | float | bool) -> str:
        """Return the scalar *value* at *path* as text, as it was written (env: ``1.10``)."""
        if isinstance(value, str):
            return value
        plain = str(value).lower() if isinstance(value, bool) else str(value)
        return self.written.get(path, plain)


@dataclass(frozen=True, slots=True)
class Reading:
    """What one run could read, and what it could not."""

    documents: tuple[Document, ...] = ()
    problems: tuple[Problem, ...] = ()
    unread: tuple[str | None, ...] = ()
    """Texts that could not be understood, None where not even the text is known."""


def dotted(path: TreePath) -> str:
    """Return the path as people read it: ``spec.container.volumes[0].target``."""
    text = ""
    for step in path:
        text = item(text, step) if isinstance(step, int) else join(text, step)
    return text
