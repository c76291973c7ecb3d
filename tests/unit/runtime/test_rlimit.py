"""Resource limits of a process, where the host's root may not set them all."""

import resource
from types import SimpleNamespace

import pytest

from runtime.kernel.program import RLIMITS
from runtime.supervisor import operations_process


@pytest.mark.parametrize("name", RLIMITS)
def test_each_that_is_lowered_is_told_by_its_name(monkeypatch, name):
    """Python has no name for one of them."""
    asked, warnings = [], []

    def refuse_once(number, wanted):
        asked.append((number, wanted))
        if len(asked) == 1:
            raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(operations_process.resource, "setrlimit", refuse_once)
    monkeypatch.setattr(operations_process.resource, "getrlimit", lambda _: (5, 5))
    number = RLIMITS.index(name)
    operations_process.rlimit(SimpleNamespace(warn=warnings.append), number, 7, 7)
    assert asked == [(number, (7, 7)), (number, (5, 5))]
    assert warnings == [f"{name} 7:7 is more than this host's root may set, 5"]


def test_the_numbers_are_the_kernels():
    known = {n: getattr(resource, n) for n in dir(resource) if n in RLIMITS}
    assert known == {n: RLIMITS.index(n) for n in known}
    assert len(known) > 10
