"""Running suites written for bats, and reading what they say (TAP)."""

import re
from collections.abc import Iterable
from pathlib import Path

from tests.conformance.outcome import FAILED, PASSED, SKIPPED, Outcome, Outcomes
from tests.conformance.running import run_bounded

_LINE = re.compile(r"^(not ok|ok) \d+ (.*?)(?: # skip ?(.*))?$")
_MOST = 400
"""Characters of a reason: the last lines say what was expected."""


def run_files(files: Iterable[Path], *, cwd: Path, env: dict[str, str], seconds: float) -> Outcomes:
    """Return what became of the tests in *files*, each of which may take *seconds*."""
    found: Outcomes = {}
    for file in files:
        output = run_bounded(["bats", "--tap", str(file)], cwd=cwd, env=env, seconds=seconds)
        found |= _read(file.stem, output)
    return found


def _read(file: str, output: str) -> Outcomes:
    """Return what a file's TAP says; comments after a line are about that line's test."""
    found: Outcomes = {}
    case = None
    for line in output.splitlines():
        if (match := _LINE.match(line)) is not None:
            case = f"{file}: {match[2]}"
            word = PASSED if match[1] == "ok" else FAILED
            found[case] = Outcome(word) if match[3] is None else Outcome(SKIPPED, match[3])
        elif case is not None and found[case].word == FAILED and line.startswith("#"):
            reason = f"{found[case].reason} {line.lstrip('# ')}"
            found[case] = Outcome(FAILED, reason[-_MOST:])
    return found
