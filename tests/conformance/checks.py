"""Cases of our own about an engine: commands of its users, and what has to come of them."""

import re
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.conformance.outcome import FAILED, PASSED, Outcome, Outcomes

_PATIENCE_S = 60.0
_MOST = 400


class Unexpected(Exception):
    """A command did not do what it has to."""


class Engine:
    """An engine's command line, with the options each call begins with, called in *folder*."""

    def __init__(self, words: list[str], env: dict[str, str], folder: Path) -> None:
        self.words = words
        self.env = env
        self.folder = folder

    def call(self, *words: str, code: int = 0, given: str = "") -> str:
        """Return both streams of a command, which has to end with *code*; *given* is its input."""
        command = [*self.words, *words]
        done = subprocess.run(
            command,
            input=given.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.env,
            cwd=self.folder,
            timeout=_PATIENCE_S,
            check=False,
        )
        output = done.stdout.decode(errors="replace").replace("\r\n", "\n").strip()
        if done.returncode != code:
            raise Unexpected(f"{' '.join(words)}: code {done.returncode}, not {code}: {output}")
        return output

    def says(self, expected: str, *words: str, code: int = 0, given: str = "") -> None:
        """Have a command print what *expected*, a regular expression, is the whole of."""
        output = self.call(*words, code=code, given=given)
        if not re.fullmatch(expected, output, re.DOTALL):
            raise Unexpected(f"{' '.join(words)}: {output!r}, not {expected!r}")

    def becomes(self, expected: str, *words: str) -> None:
        """Wait until a command prints *expected*."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return self.says(expected, *words)
            except Unexpected:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.1)


def run_checks(engine: Any, cases: Iterable[Callable[[Any], None]]) -> Outcomes:
    """Return what became of each of *cases*, functions named by what they show."""
    found: Outcomes = {}
    for case in cases:
        try:
            case(engine)
        except (Unexpected, subprocess.TimeoutExpired) as error:
            reason = " ".join(str(error).split())[-_MOST:]
            found[case.__name__.strip("_")] = Outcome(FAILED, reason)
        else:
            found[case.__name__.strip("_")] = Outcome(PASSED)
    return found
