"""Limits in the words of either version: the last that were said hold."""

import pytest

from runtime.cli.unified import changed

UNIFIED = {"cpu.weight": "1234", "memory.max": "1G", "memory.high": "512M"}


@pytest.mark.parametrize(
    ("change", "unified"),
    [
        ({"cpu": {"shares": 4321}}, {"memory.max": "1G", "memory.high": "512M"}),
        ({"memory": {"limit": 1}}, {"cpu.weight": "1234", "memory.high": "512M"}),
        ({"memory": {"swap": 1}, "cpu": {"shares": None}}, UNIFIED),
        ({"cpu": {"cpus": ""}, "blockIO": {"weight": 0}}, UNIFIED),
        ({"cpu": {"shares": 2}, "unified": {"cpu.weight": "7"}}, {**UNIFIED, "cpu.weight": "7"}),
    ],
)
def test_what_is_said_last_holds_in_whichever_words(change, unified):
    before = {"unified": dict(UNIFIED), "pids": {"limit": 3}}
    after = changed(before, change)
    assert (after["unified"], after["pids"]) == (unified, {"limit": 3})
    assert before["unified"] == UNIFIED


THROTTLES = {"throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 7}]}


@pytest.mark.parametrize(
    ("unified", "change", "after"),
    [
        ("20000 100000", {"cpu": {"period": 50000}}, {"cpu": {"quota": 20000, "period": 50000}}),
        ("max 100000", {"cpu": {"quota": 50}}, {"cpu": {"quota": 50, "period": 100000}}),
        ("20000", {"cpu": {"period": 50000}}, {"cpu": {"quota": 20000, "period": 50000}}),
        ("no such value", {"cpu": {"period": 5}}, {"cpu": {"period": 5}}),
    ],
)
def test_of_a_quota_and_its_period_what_is_not_said_again_stays(unified, change, after):
    assert changed({"unified": {"cpu.max": unified}}, change) == {"unified": {}, **after}


def test_of_throttles_what_is_not_said_again_stays():
    before = {"unified": {"io.max": "8:0 rbps=1000 wbps=max\n8:16 wiops=5"}}
    assert changed(before, {"blockIO": THROTTLES})["blockIO"] == {
        **THROTTLES,
        "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1000}],
        "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 5}],
    }


def test_limits_of_huge_pages_are_said_by_size():
    files = {"hugetlb.2MB.max": "0", "hugetlb.1GB.max": "0"}
    limits = [{"pageSize": "2MB", "limit": 1}]
    after = changed({"unified": files}, {"hugepageLimits": limits})
    assert after == {"unified": {"hugetlb.1GB.max": "0"}, "hugepageLimits": limits}


def test_an_update_keeps_what_it_does_not_give():
    before = {"memory": {"limit": 1, "swap": 2}, "pids": {"limit": 3}}
    change = {"memory": {"limit": 5, "swap": None}, "cpu": {"shares": 7}, "pids": {}}
    assert changed(before, change) == {
        "memory": {"limit": 5, "swap": 2},
        "pids": {"limit": 3},
        "cpu": {"shares": 7},
    }
    assert before["memory"]["limit"] == 1
