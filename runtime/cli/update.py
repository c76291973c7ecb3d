"""``update``: change the limits of a living container."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from runtime import json_text
from runtime.cgroup.setting import parse_size
from runtime.cli import group as cgroups
from runtime.cli.arguments import UsageError, one, only
from runtime.cli.bundle import drop_kernel_memory, read_json, to_spec
from runtime.cli.commands import wanted
from runtime.cli.context import Context
from runtime.cli.folder import condition
from runtime.cli.report import clear_up
from runtime.cli.unified import changed
from runtime.errors import ContainerError, StateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

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
_TEXTS = ("cpuset-cpus", "cpuset-mems")


def update(context: Context, values: Mapping[str, list[str]], rest: list[str]) -> int:
    """Change the limits that are given; the others stay, and all if one cannot be had."""
    folder = context.folder(only(rest))
    change = _given(values)
    with folder.locked():
        status = folder.read()
        if condition(folder, status) == "stopped":
            raise StateError(f"container not running: {folder.id}")
        group = cgroups.open_group(status)
        if group is None:
            raise StateError(f"container {folder.id} has no cgroup")
        drop_kernel_memory({"resources": change}, context.report.warning)
        config = folder.read_config()
        before = to_spec(config, status.bundle, warn=lambda _text: None).linux.resources
        linux = config.get("linux") or {}
        resources = changed(linux.get("resources") or {}, change)
        config["linux"] = {**linux, "resources": resources}
        after = to_spec(config, status.bundle, warn=context.report.warning).linux.resources
        try:
            cgroups.limit(status, group, after)
        except (ContainerError, OSError) as error:
            clear_up(error, lambda: cgroups.limit(status, group, before))
            raise
        folder.write_config(config)
    return 0


def _given(values: Mapping[str, list[str]]) -> dict[str, Any]:
    source = one(values, "resources")
    change: Any = {}
    if source == "-":
        try:
            change = json_text.loads(sys.stdin.read())
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
