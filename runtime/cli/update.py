"""``update``: change the limits of a living container."""

import json
import sys
from collections.abc import Mapping
from typing import Any

from runtime.cgroup.setting import parse_size
from runtime.cli import group as cgroups
from runtime.cli.arguments import UsageError, one, only
from runtime.cli.bundle import read_json, to_spec
from runtime.cli.commands import wanted
from runtime.cli.context import Context
from runtime.cli.folder import condition
from runtime.errors import ContainerError, StateError

_MEMBERS = {
    "blkio-weight": ("blockIO", "weight"),
    "cpu-burst": ("cpu", "burst"),
    "cpu-idle": ("cpu", "idle"),
    "cpu-period": ("cpu", "period"),
    "cpu-quota": ("cpu", "quota"),
    "cpu-rt-period": ("cpu", "realtimePeriod"),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime"),
    "cpu-share": ("cpu", "shares"),
    "cpuset-cpus": ("cpu", "cpus"),
    "cpuset-mems": ("cpu", "mems"),
    "kernel-memory": ("memory", "kernel"),
    "kernel-memory-tcp": ("memory", "kernelTCP"),
    "memory": ("memory", "limit"),
    "memory-reservation": ("memory", "reservation"),
    "memory-swap": ("memory", "swap"),
    "pids-limit": ("pids", "limit"),
}
"""Option to where it is in the resources of the specification."""
_UNIFIED = {
    ("blockIO", "weight"): "io.weight",
    ("cpu", "burst"): "cpu.max.burst",
    ("cpu", "cpus"): "cpuset.cpus",
    ("cpu", "idle"): "cpu.idle",
    ("cpu", "mems"): "cpuset.mems",
    ("cpu", "period"): "cpu.max",
    ("cpu", "quota"): "cpu.max",
    ("cpu", "shares"): "cpu.weight",
    ("memory", "limit"): "memory.max",
    ("memory", "reservation"): "memory.low",
    ("memory", "swap"): "memory.swap.max",
    ("pids", "limit"): "pids.max",
}
"""What is the same in the words of version 2, which go first."""
_TEXTS = ("cpuset-cpus", "cpuset-mems")


def update(context: Context, values: Mapping[str, list[str]], rest: list[str]) -> int:
    """Change the limits that are given; the others stay."""
    folder = context.folder(only(rest))
    change = _given(values)
    with folder.locked():
        status = folder.read()
        if condition(folder, status) == "stopped":
            raise StateError(f"container not running: {folder.id}")
        group = cgroups.open_group(status)
        if group is None:
            raise StateError(f"container {folder.id} has no cgroup")
        config = folder.read_config()
        linux = config.setdefault("linux", {})
        linux["resources"] = changed(linux.get("resources") or {}, change)
        spec = to_spec(config, status.bundle, warn=context.report.warning)
        cgroups.limit(status, group, spec.linux.resources)
        folder.write_config(config)
    return 0


def changed(resources: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Return *resources* with what *change* gives, whatever words it was given in before. Pure."""
    outdone = {
        file
        for (section, member), file in _UNIFIED.items()
        if isinstance(change.get(section), dict) and change[section].get(member) is not None
    }
    unified = resources.get("unified") or {}
    kept = {file: value for file, value in unified.items() if file not in outdone}
    return _merged({**resources, "unified": kept}, change)


def _merged(resources: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Return *resources* with what *change* gives; null and empty members change nothing. Pure."""
    result = dict(resources)
    for name, value in change.items():
        if value is None or value in ({}, []):
            continue
        if isinstance(value, dict) and isinstance(result.get(name), dict):
            result[name] = _merged(result[name], value)
        else:
            result[name] = value
    return result


def _given(values: Mapping[str, list[str]]) -> dict[str, Any]:
    source = one(values, "resources")
    change: Any = {}
    if source == "-":
        try:
            change = json.loads(sys.stdin.read())
        except (ValueError, RecursionError) as error:
            raise UsageError(f"standard input: {error}") from error
    elif source is not None:
        change = read_json(source)
    if not isinstance(change, dict):
        raise UsageError("the resources are no JSON object")
    for name, (section, member) in _MEMBERS.items():
        if name in values:
            value: Any
            if section == "memory":
                value = _bytes(name, values[name][-1])
            else:
                value = values[name][-1] if name in _TEXTS else wanted(values, name)
            change.setdefault(section, {})[member] = value
    if not change:
        raise UsageError("nothing to update: give --resources or limits")
    memory = change.get("memory")
    if isinstance(memory, dict) and memory.get("limit") == -1 and not memory.get("swap"):
        memory["swap"] = -1  # which is both together, and can be no less
    return change


def _bytes(name: str, text: str) -> int:
    """Return a size as runc takes it: bytes, or with K, M, G or T; -1 is no limit.

    Raises:
        UsageError: it is none.
    """
    digits = text.removesuffix("b").removesuffix("B")
    if digits.removeprefix("-").isdecimal():
        return int(digits)
    try:
        size = parse_size(digits)
    except ContainerError:
        size = None
    if size is None:
        raise UsageError(f"--{name} is a number of bytes, as 64M, not {text}")
    return size
