"""Nothing that the runtimes which others' suites are written for can do, and ours cannot."""

import shutil
import subprocess
import sys

import pytest

from tests.conformance.__main__ import SUITES


@pytest.mark.long
@pytest.mark.download
@pytest.mark.kernel
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("suite", SUITES)
def test_ours_passes_what_its_peer_passes(suite):
    for program in ("crun", "runc", "podman", "dockerd", "containerd", "buildah", "bats"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: make conformance installs it")
    command = [sys.executable, "-m", "tests.conformance", suite]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
