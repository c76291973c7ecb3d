"""Limits in the words of either version: the last that were said hold."""

import pytest

from runtime.cli.update import changed

UNIFIED = {"cpu.weight": "1234", "memory.max": "1G", "memory.high": "512M"}


@pytest.mark.parametrize(
    ("change", "unified"),
    [
        ({"cpu": {"shares": 4321}}, {"memory.max": "1G", "memory.high": "512M"}),
        ({"memory": {"limit": 1}}, {"cpu.weight": "1234", "memory.high": "512M"}),
        ({"memory": {"swap": 1}, "cpu": {"shares": None}}, UNIFIED),
        ({"cpu": {"shares": 2}, "unified": {"cpu.weight": "7"}}, {**UNIFIED, "cpu.weight": "7"}),
    ],
)
def test_what_is_said_last_holds_in_whichever_words(change, unified):
    before = {"unified": dict(UNIFIED), "pids": {"limit": 3}}
    after = changed(before, change)
    assert (after["unified"], after["pids"]) == (unified, {"limit": 3})
    assert before["unified"] == UNIFIED
