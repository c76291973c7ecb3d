"""What is measured, and how it is put: turns in rotation, medians, tables with ratios."""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from tests.support.calling import call

Row = tuple[str, list[float]]
"""What, and the figure of each contestant."""

T = TypeVar("T")


def timed(command: Sequence[str]) -> float:
    """Return seconds of one command."""
    began = time.perf_counter()
    call(*command)
    return time.perf_counter() - began


def interleave(contestants: Sequence[T], once: Callable[[T], float], rounds: int) -> list[float]:
    """Return each one's median of turns taken in rotation, the first round left out."""
    turns = [[once(each) for each in contestants] for _ in range(rounds + 1)][1:]
    return [statistics.median(each) for each in zip(*turns, strict=True)]


def pss(*words: bytes) -> float:
    """Return MiB of all processes with one of *words* in their command line."""
    total = 0
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and any(
                word in (entry / "cmdline").read_bytes() for word in words
            ):
                lines = (entry / "smaps_rollup").read_text().splitlines()
                total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        except OSError:
            continue
    return total / 1024


def table(names: Sequence[str], measured: Sequence[Row]) -> str:
    """Return the rows as Markdown, with a JSON line below for programs."""
    ours, *peers = names
    heads = ["what", ours, *peers, *(f"{ours} / {peer}" for peer in peers)]
    lines = [" | ".join(heads), "|".join("---" for _ in heads)]
    for what, (first, *others) in measured:
        figures = [first, *others, *(first / other for other in others)]
        lines.append(" | ".join([what, *(f"{figure:.3g}" for figure in figures)]))
    return "\n".join([*(f"| {line} |" for line in lines), "", json.dumps(measured), ""])
