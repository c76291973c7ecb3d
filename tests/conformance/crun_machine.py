"""crun's own tests in the test machine: pure cgroup v2, and systemd is the first process."""

import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

from tests.conformance import crun
from tests.conformance.outcome import Outcome, Outcomes
from tests.conformance.source import source
from tests.vm.image import image
from tests.vm.machine import Machine

NAME = "crun's tests on cgroup v2 with systemd"
PEER = "crun"
FEWEST = 80

_PLACE = "/opt/crun"
_OURS = "/usr/bin/bayplan-oci"
_PATIENCE_S = 7200
"""For all tests, under emulation."""


def fetch() -> None:
    """Have the tests, and the machine's image."""
    crun.fetch()
    image()


def outcomes(runtime: str, scratch: Path) -> Outcomes:
    """Run all tests in a machine that was just booted."""
    if runtime != shutil.which(PEER):
        runtime = _OURS
    with Machine() as machine:
        machine.run(["tar", "--extract", "--skip-old-files", "--directory=/"], stdin=_luggage())
        into = f"{_PLACE}/scratch"
        machine.run(["mkdir", into])
        words = (f"{_PLACE}/tests", f"{_PLACE}/init", runtime, into)
        command = ["python3", "-m", "tests.conformance.crun", *words]
        said = machine.run(command, timeout_s=_PATIENCE_S).out
    found = json.loads(said.splitlines()[-1])
    return {case: Outcome(*outcome) for case, outcome in found.items()}


def _luggage() -> bytes:
    """Return an archive of what the machine lacks: crun with its libraries, tests and helper."""
    data = io.BytesIO()
    program = shutil.which(PEER)
    assert program is not None
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    with tarfile.open(fileobj=data, mode="w") as tar:
        tar.dereference = True
        for path in (program, *re.findall(r"=> (/\S+)", listed)):
            tar.add(path, os.path.join("usr", path.lstrip("/").removeprefix("usr/")))
        tar.add(source("crun") / "tests", f"{_PLACE.lstrip('/')}/tests")
        tar.add(crun.helper(), f"{_PLACE.lstrip('/')}/init")
    return data.getvalue()
