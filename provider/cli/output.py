"""Documents on standard output: texts for people, one JSON document for programs."""

import json
import shutil
import sys
from enum import StrEnum
from typing import Any

from provider.cli.session import wants_colour


class Output(StrEnum):
    """Formats of a report."""

    TEXT = "text"
    JSON = "json"
    JSONL = "jsonl"


def print_json(document: Any) -> None:
    """Print one JSON document."""
    print(json.dumps(document, indent=2, ensure_ascii=False))


def print_line(document: Any) -> None:
    """Print one JSON line."""
    print(json.dumps(document, ensure_ascii=False), flush=True)


def width() -> int:
    """Return the columns of the terminal, 80 where there is none."""
    return shutil.get_terminal_size((80, 24)).columns


def colour() -> bool:
    """Tell whether standard output should be coloured."""
    return wants_colour(sys.stdout.isatty())


def table(rows: list[list[str]], header: list[str]) -> str:
    """Return rows as aligned columns, without trailing blanks."""
    everything = [header, *rows]
    widths = [max(len(row[column]) for row in everything) for column in range(len(header))]
    lines = (
        "   ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip()
        for row in everything
    )
    return "\n".join(lines)
