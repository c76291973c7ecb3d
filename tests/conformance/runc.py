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
FEWEST = 110

_NAMED = "says that it is runc, in its words"
_DEBUG = "wants the debug messages of runc's own parts"
DIFFERENCES = {
    "version: runc version": _NAMED,
    "help: runc -h": _NAMED,
    "help: runc foo -h": _NAMED,
    "help: runc command -h": "asks for commands that are not there, as checkpoint",
    "debug: global --debug": _DEBUG,
    "debug: global --debug to --log": _DEBUG,
    "debug: global --debug to --log --log-format 'text'": _DEBUG,
    "debug: global --debug to --log --log-format 'json'": _DEBUG,
    "exec: runc --debug exec": _DEBUG,
    "exec: runc --debug --log exec": _DEBUG,
    "ps: ps": "without options ours prints pids, as crun",
    "cgroups: runc run/create should warn about a non-empty cgroup": (
        "a cgroup that is there is another's: refused"
    ),
    "cgroups: runc run/create should refuse pre-existing frozen cgroup": (
        "refused, as any that is there already"
    ),
    "cgroups: runc run (cgroup v1 + unified resources should fail)": "it does, in other words",
    "exec: runc exec [exit codes]": "a program that is missing is 127, as from a shell",
    "exec: runc exec --cgroup sub-cgroups [v1]": "the same is refused, in other words",
    "seccomp: runc run [seccomp] (startContainer hook)": "the hook is killed, in other words",
    "update: update cpuset parameters via resources.CPU": (
        "a member CPU is not cpu, and what is not known is refused"
    ),
    "delete: runc delete --force in cgroupv1 with subcgroups": (
        "adds a cgroup namespace to a spec that has one: refused"
    ),
}
"""Cases in which ours is meant to be otherwise."""

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
