"""runc's integration tests, written for bats, with roots of busybox in place of downloads."""

import os
import shutil
from pathlib import Path

from tests.conformance.bats import run_files
from tests.conformance.outcome import Outcomes
from tests.conformance.podman import write_image
from tests.conformance.source import source

NAME = "runc's integration tests"
PEER = "runc"

_FILES = (
    *("cgroups", "create", "cwd", "debug", "delete", "dev", "exec", "help", "hooks", "kill"),
    *("list", "mask", "mounts", "mounts_recursive", "no_pivot", "pause", "ps", "root", "run"),
    *("seccomp", "spec", "start", "start_detached", "start_hello", "state", "tty", "umask"),
    *("update", "userns", "version"),
)
"""Not those of what `bayplan-oci` says it does not have: checkpoints, events."""
_PATIENCE_S = 600
"""For one file of tests."""


def fetch() -> None:
    """Have the tests."""
    source("runc")


def outcomes(runtime: str, scratch: Path) -> Outcomes:
    """Run the tests."""
    tests = scratch / "tests" / "integration"
    shutil.copytree(source("runc") / "tests" / "integration", tests)
    archive, _changes = write_image(scratch)
    images = "".join(f"echo {name}_IMAGE={archive}\n" for name in ("BUSYBOX", "HELLO", "DEBIAN"))
    (tests / "get-images.sh").write_text(f"#!/bin/sh\n{images}")
    tool = scratch / "contrib" / "cmd" / "recvtty" / "recvtty"
    tool.parent.mkdir(parents=True)
    shutil.copy2(Path(__file__).with_name("stand_in") / "recvtty", tool)
    env = os.environ | {"RUNC": runtime, "TMPDIR": str(scratch)}
    files = [tests / f"{name}.bats" for name in _FILES]
    return run_files(files, cwd=tests, env=env, seconds=_PATIENCE_S)
