"""An interpreter that nobody can write to, for what comes near a container."""

import errno
import os
import subprocess
import sys

import pytest

from runtime.kernel import mask

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize(
    ("made", "masked", "refusal"),
    [
        ("sealed_interpreter", "", errno.ETXTBSY),
        ("read_only_interpreter", "", errno.EROFS),
        ("read_only_interpreter", mask.OVERLAY_OF_PYTHON, errno.ETXTBSY),
    ],
)
@pytest.mark.parametrize("user", [None, 65534])
def test_it_runs_and_cannot_be_written(made, masked, refusal, user):
    """An ordinary user has no overlays, so it is a copy."""
    script = f"""
import os, sys
sys.path.insert(0, os.getcwd())
from runtime.kernel.selfexe import is_out_of_reach, {made}
if not is_out_of_reach():
    os.execve({made}(), [sys.executable, *sys.orig_argv[1:]], os.environ)
import json, ctypes
try:
    open("/proc/self/exe", "wb")
except OSError as error:
    print(error.errno, sys.prefix)
"""
    command = [sys.executable, "-I", "-S", "-c", script]
    env = os.environ | {mask.VARIABLE: masked}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env, user=user)
    expected = refusal if user is None else errno.ETXTBSY
    assert done.stdout.split() == [str(expected), sys.base_prefix]
