"""The tests of the kernel side, and some from end to end, on pure v2 with systemd."""

from __future__ import annotations

import pytest

from tests.vm.machine import Machine

pytestmark = [pytest.mark.machine, pytest.mark.long, pytest.mark.timeout(7200)]


def test_kernel_suite(machine: Machine) -> None:
    print(machine.pytest("tests/kernel", timeout_s=7000))


def test_end_to_end(machine: Machine) -> None:
    tests = ("converge", "drift", "living", "update", "leaks", "crash")
    print(machine.pytest(*(f"tests/e2e/test_{name}.py" for name in tests), timeout_s=7000))
