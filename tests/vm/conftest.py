"""The machine for tests: one that is on at the begin of each, and at the end of the module gone."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator

import pytest

from tests.support.host import cannot
from tests.vm.disks import PYTHON
from tests.vm.machine import DEFAULT_MEMORY_MIB, Machine

_NEEDED = ("qemu-system-x86_64", "qemu-img", "mmdebstrap", "mke2fs", "cpio")


@pytest.fixture(scope="module")
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A machine of this module's own, whose disk goes through all its tests.

    It has as much memory as the module's MEMORY_MIB says, if that is there.
    """
    if os.uname().machine != "x86_64":
        cannot("run programs of x86-64, which the test machine is made of")
    missing = [name for name in _NEEDED if shutil.which(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if sys.version_info[:2] != PYTHON:
        pytest.skip(f"the machine's Python is {PYTHON}, this one's packages do not fit it")
    with Machine(memory_mib=getattr(request.module, "MEMORY_MIB", DEFAULT_MEMORY_MIB)) as machine:
        yield machine


@pytest.fixture(autouse=True)
def _on(machine: Machine) -> None:
    """Power on what a failed test has left off."""
    if not machine.is_on:
        machine.power_on()
