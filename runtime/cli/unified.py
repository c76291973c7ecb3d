"""Limits in the words of cgroup version 2 (``unified``), where others are given after them. Pure.

``unified`` goes first, so what is said later of the same file in the words of all hosts would
not hold; and of a file with several values, what is not said again must stay.

Source: config-linux.md (unified); Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

from collections.abc import Iterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FILES = {
    ("blockIO", "throttleReadBpsDevice"): ("io.max",),
    ("blockIO", "throttleReadIOPSDevice"): ("io.max",),
    ("blockIO", "throttleWriteBpsDevice"): ("io.max",),
    ("blockIO", "throttleWriteIOPSDevice"): ("io.max",),
    ("blockIO", "weight"): ("io.weight", "io.bfq.weight"),
    ("blockIO", "weightDevice"): ("io.weight", "io.bfq.weight"),
    ("cpu", "burst"): ("cpu.max.burst",),
    ("cpu", "cpus"): ("cpuset.cpus",),
    ("cpu", "idle"): ("cpu.idle",),
    ("cpu", "mems"): ("cpuset.mems",),
    ("cpu", "period"): ("cpu.max",),
    ("cpu", "quota"): ("cpu.max",),
    ("cpu", "shares"): ("cpu.weight",),
    ("memory", "limit"): ("memory.max",),
    ("memory", "reservation"): ("memory.low",),
    ("memory", "swap"): ("memory.swap.max",),
    ("pids", "limit"): ("pids.max",),
}
"""Where they are in the resources of the specification, and what version 2 calls them."""
_ZERO_IS_UNSET = frozenset(
    {
        *("limit", "reservation", "swap", "shares", "quota", "period", "weight", "leafWeight"),
        *("realtimeRuntime", "realtimePeriod"),
    }
)
"""Members of which 0 is what Go writes for nothing."""
_THROTTLES = {
    "rbps": "throttleReadBpsDevice",
    "riops": "throttleReadIOPSDevice",
    "wbps": "throttleWriteBpsDevice",
    "wiops": "throttleWriteIOPSDevice",
}


def changed(resources: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Return *resources* with what *change* gives, whatever words it was given in before.

    Null and empty members change nothing, nor does 0 where runc takes it for not given.
    """
    change = _without_unset(change)
    unified = resources.get("unified") or {}
    said_anew = unified.keys() & {*_files(change)}
    before = dict(resources)
    if said_anew:
        before["unified"] = {k: v for k, v in unified.items() if k not in said_anew}
    for file in said_anew:
        before = _merged(before, _in_other_words(file, unified[file]))
    return _merged(before, change)


def _without_unset(change: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in change.items():
        if isinstance(value, dict):
            found[name] = _without_unset(value)
        elif name not in _ZERO_IS_UNSET or value != 0:
            found[name] = value
    return found


def _files(change: dict[str, Any]) -> Iterator[str]:
    for (section, member), files in _FILES.items():
        members = change.get(section)
        if isinstance(members, dict) and members.get(member) not in (None, "", []):
            yield from files
    for limit in change.get("hugepageLimits") or ():
        if isinstance(limit, dict):
            size = limit.get("pageSize")
            yield from (f"hugetlb.{size}.max", f"hugetlb.{size}.rsvd.max")


def _in_other_words(file: str, value: str) -> dict[str, Any]:
    """Return what of a file with several values may have to stay."""
    try:
        if file == "cpu.max":
            return {"cpu": _quota(*value.split())}
        if file == "io.max":
            return {"blockIO": _throttles(value)}
    except (TypeError, ValueError):
        pass  # no such file takes that: nothing of it was ever in force
    return {}


def _quota(quota: str, period: str | None = None) -> dict[str, int]:
    found = {"quota": -1 if quota == "max" else int(quota)}
    return found if period is None else {**found, "period": int(period)}


def _throttles(text: str) -> dict[str, list[dict[str, int]]]:
    found: dict[str, list[dict[str, int]]] = {}
    for line in text.splitlines():
        device, *words = line.split()
        major, minor = map(int, device.split(":"))
        for word in words:
            key, _, rate = word.partition("=")
            if rate != "max" and key in _THROTTLES:
                limit = {"major": major, "minor": minor, "rate": int(rate)}
                found.setdefault(_THROTTLES[key], []).append(limit)
    return found


def _merged(resources: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    result = dict(resources)
    for name, value in change.items():
        if value is None or value in ({}, []):
            continue
        if isinstance(value, dict) and isinstance(result.get(name), dict):
            result[name] = _merged(result[name], value)
        else:
            result[name] = value
    return result
