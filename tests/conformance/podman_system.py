"""Podman's own system tests, written for bats: those that live on what a runtime does."""

from pathlib import Path

from tests.conformance.bats import run_files
from tests.conformance.outcome import Outcomes
from tests.conformance.podman import environment, make_image
from tests.conformance.source import source

NAME = "podman's system tests"
PEER = "crun"
FEWEST = 58

_FILES = ("040", "045", "050", "065", "075", "080", "130", "190", "280", "450")
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
    files = [file for number in _FILES for file in tests.glob(f"{number}-*.bats")]
    return run_files(files, cwd=tests, env=env, seconds=_PATIENCE_S)
