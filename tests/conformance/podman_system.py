"""Podman's own system tests, written for bats: those that live on what a runtime does."""

import re
from pathlib import Path

from tests.conformance.outcome import FAILED, PASSED, SKIPPED, Outcome, Outcomes
from tests.conformance.podman import environment, make_image
from tests.conformance.running import run_bounded
from tests.conformance.source import source

NAME = "podman's system tests"
PEER = "crun"

_FILES = ("040", "045", "050", "065", "075", "080", "130", "190", "280", "450")
_LINE = re.compile(r"^(not ok|ok) \d+ (.*?)(?: # skip ?(.*))?$")
_PATIENCE_S = 900
"""For one file of tests."""


def fetch() -> None:
    """Have the tests."""
    source("libpod")


def outcomes(runtime: str, scratch: Path) -> Outcomes:
    """Run the tests with *runtime* as podman's."""
    env = environment(runtime, scratch)
    make_image(env, scratch)
    tests = source("libpod") / "test" / "system"
    found: Outcomes = {}
    for number in _FILES:
        (file,) = tests.glob(f"{number}-*.bats")
        words = ["bats", "--tap", str(file)]
        output = run_bounded(words, cwd=tests, env=env, seconds=_PATIENCE_S)
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


_MOST = 400
"""Characters of a reason: the last lines say what was expected."""
