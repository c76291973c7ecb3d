"""Documents on standard output: texts for people, one JSON document for programs."""

import errno
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import IO, Any

from provider.cli.session import wants_colour

_SHORTEST = 12
"""A column is not cut to less: an id is as long."""
_NOT_ASCII_CONTROLS = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class Output(StrEnum):
    """Formats of a report."""

    TEXT = "text"
    JSON = "json"
    JSONL = "jsonl"


def print_json(document: Any) -> None:
    """Print one JSON document."""
    print(as_json(document))


def as_json(document: Any) -> str:
    """Return one JSON document, for people to read too."""
    return _harmless(json.dumps(document, indent=2, ensure_ascii=False))


def print_line(document: Any) -> None:
    """Print one JSON line."""
    print(_harmless(json.dumps(document, ensure_ascii=False)), flush=True)


def show(document: Any, output: Output) -> None:
    """Print one JSON document, as *output*, which is not TEXT, has it."""
    if output is Output.JSONL:
        print_line(document)
    else:
        print_json(document)


@contextmanager
def reader_may_leave(stream: IO[str]) -> Iterator[None]:
    """Go on if nobody reads *stream* any more (``| head``, a terminal that is gone).

    What is said on it is lost from then.

    For what must not end because of that: the work that is being told of, and its exit code.
    """
    try:
        yield
        stream.flush()
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EIO):
            raise
        silence(stream)


def silence(stream: IO[str]) -> None:
    """Let what is said on *stream* be lost, also what the interpreter flushes at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def complain(text: str, hint: str = "") -> None:
    """Say what is wrong, on standard error, if it can be said there."""
    try:
        print(f"bayplan: {plain(text, lines=True)}", file=sys.stderr)
        if hint:
            print(f"  {plain(hint, lines=True)}", file=sys.stderr)
    except OSError:
        silence(sys.stderr)


def plain(text: str, *, lines: bool = False) -> str:
    """Return *text* with all that a terminal would obey escaped; *lines* keeps newlines.

    What containers say, and what they are called, is no better than what is in them.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or (lines and c == "\n") else c.encode("unicode_escape").decode()
        for c in text
    )


def width() -> int:
    """Return the columns of the terminal, 80 where there is none."""
    return shutil.get_terminal_size((80, 24)).columns


def colour() -> bool:
    """Tell whether standard output should be coloured."""
    return wants_colour(sys.stdout.isatty())


def table(rows: list[list[str]], header: list[str], *, whole: bool = False) -> str:
    """Return rows as aligned columns, without trailing blanks.

    On a terminal lines are made to fit, at the cost of the widest columns, unless *whole*.
    """
    everything = [header, *([plain(cell) for cell in row] for row in rows)]
    sizes = [max(_columns(row[place]) for row in everything) for place in range(len(header))]
    if not whole and (sys.stdout.isatty() or os.environ.get("COLUMNS")):
        sizes = _fit(sizes, width() - 3 * (len(sizes) - 1))
    lines = (
        "   ".join(_cell(cell, size) for cell, size in zip(row, sizes, strict=True)).rstrip()
        for row in everything
    )
    return "\n".join(lines)


def _fit(sizes: list[int], room: int) -> list[int]:
    """Return *sizes* with the widest made narrower until all fit, as far as that is sensible."""
    fitting = list(sizes)
    while sum(fitting) > room and max(fitting) > _SHORTEST:
        fitting[fitting.index(max(fitting))] -= 1
    return fitting


def _cell(text: str, size: int) -> str:
    if _columns(text) > size:
        while _columns(text) >= size:
            text = text[:-1]
        text += "…"
    return text + " " * (size - _columns(text))


def _columns(text: str) -> int:
    """Return how many columns of a terminal *text* takes."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(c) else 1 + (east_asian_width(c) in "WF") for c in text)


def _harmless(document: str) -> str:
    """Return JSON without what a terminal would obey, or what UTF-8 has no place for."""
    return _NOT_ASCII_CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", document)


def readable_size(size_bytes: int | None) -> str:
    """Return a size for people; ``-`` if it is not known."""
    if size_bytes is None:
        return "-"
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("the last unit takes everything")
