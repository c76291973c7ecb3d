"""crun's own tests, in Python: each makes a bundle, and a helper inside tells what it sees."""

import json
import os
import re
import sys
from pathlib import Path

from tests.conformance.outcome import FAILED, PASSED, SKIPPED, Outcome, Outcomes
from tests.conformance.running import run_bounded
from tests.conformance.source import CACHE, source
from tests.support.calling import call

NAME = "crun's tests"
PEER = "crun"
FEWEST = 88

_PYTHON = "/usr/bin/python3"
"""Debian's, as they say themselves; of ours they need nothing."""
_LINE = re.compile(r"(not ok|ok) \d+ - (\S+)( #SKIP)?$")
_PATIENCE_S = 300
"""For one file of tests."""
_SLOWER = 4
"""How much longer one may take under emulation."""


def fetch() -> None:
    """Have the tests, and the program that is the init of their containers."""
    helper()


def outcomes(runtime: str, scratch: Path) -> Outcomes:
    """Run all tests against *runtime*, in the folder *scratch*."""
    tests = source("crun") / "tests"
    return run_tests(tests, helper(), runtime, scratch)


def run_tests(
    tests: Path, init: Path, runtime: str, scratch: Path, *, emulated: bool = False
) -> Outcomes:
    """Run what is in the folder *tests*, with the program *init*."""
    here = Path(__file__).parent
    libraries = ["stand_in", *(["patient"] if emulated else [])]
    seconds = _PATIENCE_S * (_SLOWER if emulated else 1)
    environment = os.environ | {
        "OCI_RUNTIME": runtime,
        "INIT": str(init),
        "PYTHONPATH": ":".join(str(here / name) for name in libraries),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    (scratch / "tests").mkdir()
    (scratch / "tests/init").symlink_to(init)  # where some look for it
    found: Outcomes = {}
    for file in sorted(tests.glob("test_*.py")):
        words = [_PYTHON, "-u", str(file)]
        output = run_bounded(words, cwd=scratch, env=environment, seconds=seconds)
        found |= _read(file.stem, output)
    return found


def _read(file: str, output: str) -> Outcomes:
    """Return what a file's TAP says; what comes before a line is about that line's test."""
    found: Outcomes = {}
    said: list[str] = []
    for line in output.splitlines():
        if (match := _LINE.search(line)) is None:
            said.append(line.strip())
            continue
        said.append(line[: match.start()])  # what does not end its line itself
        word = SKIPPED if match[3] else PASSED if match[1] == "ok" else FAILED
        found[f"{file}: {match[2]}"] = Outcome(word, " ".join(filter(None, said))[-300:])
        said = []
    return found


def helper() -> Path:
    """Return the program that is the containers' init, compiled as crun's build does."""
    tests = source("crun") / "tests"
    program = CACHE / "crun" / "init"
    if not program.exists():
        include = CACHE / "crun" / "include"
        include.mkdir(exist_ok=True)
        (include / "config.h").write_text("#define HAVE_ERROR_H 1\n#define HAVE_SECCOMP 1\n")
        fresh = program.with_name("init.new")
        call("gcc", "-static", f"-I{include}", "-o", str(fresh), str(tests / "init.c"), "-lseccomp")
        fresh.rename(program)
    return program


if __name__ == "__main__":
    # In the machine: TESTS INIT RUNTIME SCRATCH.
    *paths, into = sys.argv[1:]
    made = run_tests(Path(paths[0]), Path(paths[1]), paths[2], Path(into), emulated=True)
    print(json.dumps({case: [outcome.word, outcome.reason] for case, outcome in made.items()}))
