"""The tests of the kernel side, and some from end to end, on pure v2 with systemd."""

from __future__ import annotations

import pytest

from tests.vm.machine import Machine

pytestmark = [
    pytest.mark.machine,
    pytest.mark.long,
    pytest.mark.download,
    pytest.mark.timeout(15000),
]

MEMORY_MIB = 2048
"""Hundreds of containers at once are among the tests."""
_MOST_S = 14000.0
"""Under emulation it is an hour and more."""


def test_kernel_suite(machine: Machine) -> None:
    print(machine.pytest("tests/kernel", "--workers=2", timeout_s=_MOST_S))


def test_end_to_end(machine: Machine) -> None:
    tests = ("converge", "drift", "living", "update", "leaks", "crash")
    files = (f"tests/e2e/test_{name}.py" for name in tests)
    print(machine.pytest(*files, "--workers=2", timeout_s=_MOST_S))
