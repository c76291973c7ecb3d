"""Scopes of systemd: what a container's is called, where it is, and what systemd is told of it.

Pure. systemd writes the limits it knows of into the group of a scope, also later (on
``daemon-reload``, when another property changes); so it is told those we set.

Source: OCI runtime-spec config-linux.md (cgroupsPath), systemd.resource-control(5),
org.freedesktop.systemd1(5); the path's form is runc's.
"""

import math
import re
from collections.abc import Iterator

from runtime.cgroup.devices import verdict
from runtime.cgroup.hierarchy import Hierarchy
from runtime.cgroup.limits import (
    DEFAULT_CPU_PERIOD_US,
    io_weight_from_blkio,
    limit_or_none,
    memory_limits,
    weight_from_shares,
)
from runtime.cgroup.setting import parse_list, parse_size
from runtime.errors import ContainerError
from runtime.record import dataclass
from runtime.spec import BlockIo, Cpu, Resources

_INFINITY = 2**64 - 1
_DEFAULT_SLICE = "system.slice"
_DEFAULT_PREFIX = "bayplan-oci"
# Older systemd rounds down to this, and would undercut what was asked for.
_QUOTA_STEP_US = 10_000
_NAME = re.compile(r"[A-Za-z0-9:_.\\-]+")

Property = tuple[str, tuple[str, object]]
"""Name, and (D-Bus signature, value)."""


@dataclass(frozen=True, slots=True)
class Scope:
    """One scope unit below a slice."""

    slice: str
    unit: str

    @property
    def group(self) -> str:
        """Name of its cgroup: a slice is below those its name begins with, systemd.slice(5)."""
        if self.slice == "-.slice":
            return self.unit
        words = self.slice.removesuffix(".slice").split("-")
        above = ["-".join(words[:count]) + ".slice" for count in range(1, len(words) + 1)]
        return "/".join((*above, self.unit))


def scope_of(cgroups_path: str | None, container_id: str) -> Scope:
    """Return the scope that ``SLICE:PREFIX:NAME`` means; without a path a default one.

    Raises:
        ContainerError: the path is none of that form.
    """
    path = cgroups_path or f"{_DEFAULT_SLICE}:{_DEFAULT_PREFIX}:{container_id}"
    parts = path.split(":")
    if len(parts) != 3 or "/" in path:
        raise ContainerError(f"cgroupsPath {path} is not SLICE:PREFIX:NAME, as systemd needs")
    slice_name, prefix, name = parts
    slice_name = slice_name or _DEFAULT_SLICE
    stem = slice_name.removesuffix(".slice")
    if stem == slice_name or not name or (stem != "-" and "" in stem.split("-")):
        raise ContainerError(f"cgroupsPath {path} names no slice, or nothing in it")
    unit = f"{prefix}-{name}.scope" if prefix else f"{name}.scope"
    if not _NAME.fullmatch(slice_name) or not _NAME.fullmatch(unit) or len(unit) > 255:
        raise ContainerError(f"cgroupsPath {path} has no name that systemd takes")
    return Scope(slice_name, unit)


def start_properties(scope: Scope, description: str, pid: int) -> list[Property]:
    """Return what makes a scope one that is left to us, with *pid* as its first process."""
    return [
        ("Description", ("s", description)),
        ("Slice", ("s", scope.slice)),
        ("Delegate", ("b", True)),
        ("DefaultDependencies", ("b", False)),
        ("CollectMode", ("s", "inactive-or-failed")),
        ("MemoryAccounting", ("b", True)),
        ("CPUAccounting", ("b", True)),
        ("TasksAccounting", ("b", True)),
        ("IOAccounting", ("b", True)),
        ("PIDs", ("au", [pid])),
    ]


def limit_properties(resources: Resources, hierarchy: Hierarchy) -> list[Property]:
    """Return those limits that systemd has words for, where *hierarchy* has their controllers.

    Raises:
        ContainerError: the resources contradict each other.
    """
    found = dict((*_memory(resources, hierarchy), *_cpu(resources, hierarchy)))
    if resources.pids is not None:
        found["TasksMax"] = ("t", _or_infinity(limit_or_none(resources.pids.limit)))
    found |= _io(resources.block_io or BlockIo(), hierarchy)
    found |= _devices(resources, hierarchy)
    for file, value in resources.unified.items():
        found |= _unified(file, value)
    return list(found.items())


def _or_infinity(value: int | None) -> int:
    return _INFINITY if value is None else value


def _version(hierarchy: Hierarchy, controller: str) -> int:
    place = hierarchy.places.get(controller)
    return 2 if place is None else place.version


def _memory(resources: Resources, hierarchy: Hierarchy) -> Iterator[Property]:
    memory = resources.memory
    if memory is None:
        return
    limit, swap, reservation = memory_limits(memory)
    if _version(hierarchy, "memory") == 1:
        if memory.limit is not None:
            yield "MemoryLimit", ("t", _or_infinity(limit))
        return
    if memory.limit is not None:
        yield "MemoryMax", ("t", _or_infinity(limit))
    if memory.reservation is not None:
        yield "MemoryLow", ("t", reservation or 0)
    if memory.swap is not None:
        more = None if swap is None or limit is None else swap - limit
        yield "MemorySwapMax", ("t", _or_infinity(more))


def _cpu(resources: Resources, hierarchy: Hierarchy) -> Iterator[Property]:
    cpu = resources.cpu or Cpu()
    if shares := limit_or_none(cpu.shares):
        if _version(hierarchy, "cpu") == 1:
            yield "CPUShares", ("t", min(max(shares, 2), 262144))
        else:
            yield "CPUWeight", ("t", weight_from_shares(shares))
    if cpu.quota is not None or cpu.period is not None:
        yield from _quota(limit_or_none(cpu.quota), limit_or_none(cpu.period))
    if _version(hierarchy, "cpuset") == 2:  # of v1's systemd knows nothing
        for name, members in (("AllowedCPUs", cpu.cpus), ("AllowedMemoryNodes", cpu.mems)):
            if members:
                yield name, ("ay", _mask(members))


def _quota(quota: int | None, period: int | None) -> Iterator[Property]:
    yield "CPUQuotaPeriodUSec", ("t", period or _INFINITY)
    if quota is None:
        yield "CPUQuotaPerSecUSec", ("t", _INFINITY)
        return
    a_second = math.ceil(quota * 1_000_000 / (period or DEFAULT_CPU_PERIOD_US))
    yield "CPUQuotaPerSecUSec", ("t", -(-a_second // _QUOTA_STEP_US) * _QUOTA_STEP_US)


def _mask(members: str) -> bytes:
    """Return a list like ``0-2,7`` as bits, the least first."""
    try:
        bits = sum(1 << number for number in parse_list(members))
    except ValueError as error:
        raise ContainerError(f"{members!r} is no list like 0-2,7") from error
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


def _io(block: BlockIo, hierarchy: Hierarchy) -> Iterator[Property]:
    if weight := limit_or_none(block.weight):
        if "blkio" in hierarchy.places:
            yield "BlockIOWeight", ("t", weight)
        else:
            yield "IOWeight", ("t", io_weight_from_blkio(weight))


def _devices(resources: Resources, hierarchy: Hierarchy) -> Iterator[Property]:
    """Yield the list of v1; on v2 our program and any of systemd's are beside each other."""
    if not resources.devices or _version(hierarchy, "devices") == 2:
        return
    found = verdict(resources.devices)
    if found.allow:
        return
    yield "DevicePolicy", ("s", "strict")
    allowed = [
        (_node(*device), "".join(sorted(access))) for device, access in found.exceptions.items()
    ]
    yield "DeviceAllow", ("a(ss)", allowed)


def _node(kind: str, major: str, minor: str) -> str:
    name = "block" if kind == "b" else "char"
    return f"{name}-{major}" if minor == "*" else f"/dev/{name}/{major}:{minor}"


_UNIFIED = {
    "cpu.weight": "CPUWeight",
    "io.weight": "IOWeight",
    "memory.high": "MemoryHigh",
    "memory.low": "MemoryLow",
    "memory.max": "MemoryMax",
    "memory.min": "MemoryMin",
    "memory.swap.max": "MemorySwapMax",
    "pids.max": "TasksMax",
}
_UNIFIED_LISTS = {"cpuset.cpus": "AllowedCPUs", "cpuset.mems": "AllowedMemoryNodes"}


def _unified(file: str, value: str) -> Iterator[Property]:
    """Yield what a file of v2 is in systemd's words; most it has none for."""
    if file in _UNIFIED and ":" not in value:
        yield _UNIFIED[file], ("t", _or_infinity(parse_size(value.removeprefix("default "))))
    elif file in _UNIFIED_LISTS:
        yield _UNIFIED_LISTS[file], ("ay", _mask(value))
    elif file == "cpu.max":
        quota, _, period = value.partition(" ")
        yield from _quota(parse_size(quota), parse_size(period or str(DEFAULT_CPU_PERIOD_US)))
