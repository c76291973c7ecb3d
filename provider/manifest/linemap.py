"""Marks in a template's output that tell which line of the template made it, and loop items.

A mark stands between two NULs, which YAML does not allow: ``=line@file`` for what follows, ``(3``
to enter item 3 of a loop, ``)`` to leave it. Whoever renders puts them in; here they are read.
"""

import re

from provider.errors import Origin
from provider.manifest.document import LineMap

_MARK = re.compile("\0([^\0]*)\0")
_NOT_BLANK = re.compile(r"[^ \t\r\n]")

LOOP_EXIT = "\0)\0"
LOOP_ENTER = ("\0(", "\0")
"""What stands before and after the number of the item."""


def line_mark(line: int, path: str) -> str:
    """Return the mark for output made by *line* of *path*."""
    return f"\0={line}@{path}\0"


def read_marks(output: str, path: str) -> tuple[str, LineMap]:
    """Return *output* without marks, and the origin of each of its lines.

    A line comes from where its first character that is not blank comes from.
    """
    reader = _Reader(path)
    parts = []
    for index, part in enumerate(_MARK.split(output)):
        if index % 2:
            reader.mark(part)
        else:
            parts.append(part)
            reader.text(part)
    return "".join(parts), LineMap(reader.finish())


class _Reader:
    def __init__(self, path: str) -> None:
        self._path = path
        self._line = 1
        self._items: list[str] = []
        self._done: list[Origin] = []
        self._current: Origin | None = None

    def mark(self, text: str) -> None:
        if text.startswith("="):
            line, _, self._path = text[1:].partition("@")
            self._line = int(line)
        elif text.startswith("("):
            self._items.append(text[1:])
        elif text == ")" and self._items:
            self._items.pop()

    def text(self, text: str) -> None:
        first, *rest = text.split("\n")
        self._see(first)
        for line in rest:
            self._done.append(self._current or self._here())
            self._current = None
            self._see(line)

    def finish(self) -> tuple[Origin, ...]:
        return (*self._done, self._current or self._here())

    def _see(self, part: str) -> None:
        if self._current is None and _NOT_BLANK.search(part):
            self._current = self._here()

    def _here(self) -> Origin:
        return Origin(self._path, self._line, note=item_note(self._items))


def item_note(items: list[str]) -> str:
    """Return ``loop item 3``, or ``loop item 3.2`` for item 2 of a loop inside of item 3."""
    return f"loop item {'.'.join(items)}" if items else ""


def find_name(name: str, text: str, line: int) -> tuple[str, int, int] | None:
    """Return how the template *text* writes *name* nearest to *line*, with line and column.

    An error comes up where a value is used, which may be lines away from its name: after a
    ``set``, or in an expression over several lines.
    """
    word = re.escape(name)
    pattern = rf"[\w.]+\[['\"]?{word}['\"]?\]|(?:\w[\w.\[\]'\"]*\.)?(?<!\w){word}(?!\w)"
    found = []
    for tag in _TAG.finditer(text):
        for match in re.finditer(pattern, tag[0]):
            start = tag.start() + match.start()
            number = text.count("\n", 0, start) + 1
            column = start - text.rfind("\n", 0, start)
            found.append((abs(number - line), number, column, match[0]))
    if not found:
        return None
    _, number, column, written = min(found)
    return written, number, column


def tag_lines(text: str, line: int) -> set[int]:
    """Return the lines of the tags of the template *text* that are on *line*, in part at least."""
    found = {line}
    for tag in _TAG.finditer(text):
        first = text.count("\n", 0, tag.start()) + 1
        lines = range(first, first + tag[0].count("\n") + 1)
        if line in lines:
            found.update(lines)
    return found


_TAG = re.compile(r"\{[{%].*?[%}]\}", re.DOTALL)
