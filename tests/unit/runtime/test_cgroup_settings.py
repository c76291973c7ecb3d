"""What resources come to in files: pure, both versions."""

import dataclasses

import pytest

from provider.model import specs
from runtime.cgroup.devices import verdict
from runtime.cgroup.hierarchy import Hierarchy, Place
from runtime.cgroup.layout import DEFAULT_PIDS, lay_out, refuse
from runtime.cgroup.limits import (
    io_weight_from_blkio,
    shares_from_weight,
    weight_from_shares,
)
from runtime.cgroup.setting import PAGE_SIZE, parse_list, same_list, same_size
from runtime.cgroup.v1.controllers import CONTROLLERS as V1
from runtime.cgroup.v1.devices import resulting
from runtime.cgroup.v2.controllers import CONTROLLERS as V2
from runtime.errors import ContainerError, UnsupportedHostError
from runtime.spec import BlockIo, Cpu, DeviceRule, Memory, Pids, Resources, ThrottleDevice

MIB = 1 << 20

EVERYTHING = Resources(
    memory=Memory(limit=64 * MIB, reservation=32 * MIB, swap=96 * MIB),
    cpu=Cpu(shares=512, quota=50_000, period=200_000, cpus="0-1", mems="0"),
    pids=Pids(100),
    block_io=BlockIo(
        weight=500,
        throttle_read_bps_device=(ThrottleDevice(8, 0, 1000), ThrottleDevice(8, 16, 7)),
        throttle_write_bps_device=(ThrottleDevice(8, 0, 2000),),
        throttle_read_iops_device=(ThrottleDevice(8, 0, 30),),
        throttle_write_iops_device=(ThrottleDevice(8, 16, 40),),
    ),
)


def values(version: object, resources: Resources) -> dict[str, str]:
    controllers = {1: V1, 2: V2}[version].values()
    return {s.file: s.value for c in controllers for s in c.settings(resources)}


def test_everything_on_v1() -> None:
    assert values(1, EVERYTHING) == {
        "memory.limit_in_bytes": str(64 * MIB),
        "memory.memsw.limit_in_bytes": str(96 * MIB),
        "memory.soft_limit_in_bytes": str(32 * MIB),
        "cpu.shares": "512",
        "cpu.cfs_quota_us": "50000",
        "cpu.cfs_period_us": "200000",
        "cpuset.cpus": "0-1",
        "cpuset.mems": "0",
        "pids.max": "100",
        "blkio.bfq.weight": "500",
        "blkio.throttle.read_bps_device": "8:0 1000\n8:16 7",
        "blkio.throttle.write_bps_device": "8:0 2000",
        "blkio.throttle.read_iops_device": "8:0 30",
        "blkio.throttle.write_iops_device": "8:16 40",
        "devices.list": "a *:* rwm",
    }


def test_everything_on_v2() -> None:
    assert values(2, EVERYTHING) == {
        "memory.max": str(64 * MIB),
        "memory.swap.max": str(32 * MIB),
        "memory.low": str(32 * MIB),
        "memory.high": "max",
        "memory.oom.group": "0",
        "cpu.max": "50000 200000",
        "cpu.weight": str(weight_from_shares(512)),
        "cpuset.cpus": "0-1",
        "cpuset.mems": "0",
        "pids.max": "100",
        "io.bfq.weight": "default 500",
        "io.weight": "default 4950",
        "io.max": "8:0 rbps=1000 wbps=2000 riops=30 wiops=max\n"
        "8:16 rbps=7 wbps=max riops=max wiops=40",
        "(device program)": "all allowed",
    }


@pytest.mark.parametrize("version", [1, 2])
def test_nothing_asked_for_is_every_file_at_its_default(version: int) -> None:
    controllers = {1: V1, 2: V2}[version].values()
    zeroes = Resources(
        memory=Memory(-1, 0, -1), cpu=Cpu(0, -1, 0), pids=Pids(0), block_io=BlockIo(0)
    )
    for resources in (Resources(), zeroes):
        for controller in controllers:
            assert all(s.is_default for s in controller.settings(resources)), controller.name


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("memory", "message"),
    [
        (Memory(limit=64 * MIB, swap=32 * MIB), "below the memory limit"),
        (Memory(swap=32 * MIB), "needs a memory limit"),
    ],
)
def test_contradicting_swap_is_refused(version: int, memory: Memory, message: str) -> None:
    with pytest.raises(ContainerError, match=message):
        values(version, Resources(memory=memory))


@pytest.mark.parametrize(
    ("swap", "v1_file", "v2_file"),
    [
        (None, "-1", "max"),
        (-1, "-1", "max"),
        (64 * MIB, str(64 * MIB), "0"),
        (65 * MIB, str(65 * MIB), str(MIB)),
    ],
)
def test_swap_is_a_sum_in_the_specification_and_on_v1(
    swap: int | None, v1_file: str, v2_file: str
) -> None:
    resources = Resources(memory=Memory(limit=64 * MIB, swap=swap))
    assert values(1, resources)["memory.memsw.limit_in_bytes"] == v1_file
    assert values(2, resources)["memory.swap.max"] == v2_file


@pytest.mark.parametrize(
    ("shares", "weight"),
    [(2, 1), (1024, 39), (262144, 10000), (0, 1), (10**9, 10000), (512, 20), (4321, 165)],
)
def test_weight_from_shares(shares: int, weight: int) -> None:
    assert weight_from_shares(shares) == weight


def test_weight_rises_with_shares() -> None:
    weights = [weight_from_shares(shares) for shares in (*range(2, 262145, 61), 262144)]
    assert weights == sorted(weights)
    assert (min(weights), max(weights)) == (1, 10000)


def test_shares_keep_the_ratio_of_weights() -> None:
    assert [shares_from_weight(w) for w in (1, 50, 100, 200, 10000)] == [
        10,
        512,
        1024,
        2048,
        102400,
    ]


def test_io_weight_from_blkio() -> None:
    assert [io_weight_from_blkio(w) for w in (10, 100, 1000)] == [1, 910, 10000]


def test_sizes_compare_in_pages() -> None:
    assert same_size("1000000", str(1000000 // PAGE_SIZE * PAGE_SIZE))
    assert not same_size(str(2 * PAGE_SIZE), str(PAGE_SIZE))
    assert same_size("-1", "9223372036854771712")
    assert same_size("max", "max")
    assert same_size("64M", str(64 * MIB))
    assert not same_size("max", "0")
    with pytest.raises(ContainerError, match="'lots' is no size"):
        same_size("lots", "0")


def test_lists_compare_by_members() -> None:
    assert parse_list("0-2,7") == {0, 1, 2, 7}
    assert same_list("0,1,2", "0-2")
    assert same_list("\n", "")
    assert not same_list("0", "0-1")


def rule(text: str) -> DeviceRule:
    """``+c 1:3 rw``; ``*`` and a missing access are None."""
    kind, *rest = text[1:].split()
    if kind == "a":
        return DeviceRule(text[0] == "+", None, access=rest[0] if rest else None)
    major, minor = (None if n == "*" else int(n) for n in rest[0].split(":"))
    return DeviceRule(text[0] == "+", kind, major, minor, rest[1] if len(rest) > 1 else None)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([], "a *:* rwm"),
        (["-a"], ""),
        (["-a", "+a"], "a *:* rwm"),
        (["-a rwm", "+c *:* m", "+c 1:3 rwm"], "c *:* m\nc 1:3 rwm"),
        (["-a", "+c 1:3 r", "+c 1:3 w"], "c 1:3 rw"),
        (["-a", "+c 1:3", "-c 1:3 m"], "c 1:3 rw"),
        (["-a", "+c 1:3 rw", "-c 1:3 rw"], ""),
        (["-a", "+b 8:* rwm", "-a", "+c 1:5 r"], "c 1:5 r"),
    ],
)
def test_device_rules_come_to_what_the_kernel_lists(rules: list[str], expected: str) -> None:
    assert resulting(tuple(map(rule, rules))) == expected


@pytest.mark.parametrize(
    "partly",
    [
        DeviceRule(True, "a", 10, 200, "r"),
        DeviceRule(True, "a", minor=3),
        DeviceRule(True, None, access="r"),
        DeviceRule(False, "a", access="w"),
    ],
)
def test_a_rule_for_all_devices_that_is_about_some_is_refused(partly: DeviceRule) -> None:
    with pytest.raises(ContainerError, match="type a is about all devices"):
        verdict((DeviceRule(False), partly))


def test_denying_single_devices_while_all_are_allowed_is_refused() -> None:
    with pytest.raises(ContainerError, match="begin the rules with one that denies all"):
        resulting((rule("-c 1:3 w"),))


def hierarchy(version: int, *controllers: str) -> Hierarchy:
    places = {name: Place(1 if version == 1 else 2, f"/cg/{name}") for name in controllers}
    return Hierarchy(places, "/cg" if version == 2 else None)


def test_what_the_host_cannot_enforce_is_said() -> None:
    found = lay_out(hierarchy(2, "memory"), EVERYTHING).warnings
    assert "cpu.quota: this host has no cpu controller" in found
    assert "cpu.cpus: this host has no cpuset controller" in found
    assert "pids.limit: this host has no pids controller" in found
    assert "blockIO.throttle: this host has no io controller" in found
    assert not any(warning.startswith("memory") for warning in found)
    assert lay_out(hierarchy(2, "memory"), Resources()).warnings == ()


def test_device_rules_need_a_controller_or_v2() -> None:
    resources = Resources(devices=(rule("-a"),))
    (warning,) = lay_out(hierarchy(1, "memory"), resources).warnings
    assert warning == "devices: this host has no devices controller"
    assert lay_out(hierarchy(1, "devices"), resources).warnings == ()
    assert lay_out(hierarchy(2, "devices"), resources).warnings == ()


def test_cpu_weight_in_v2_words_works_on_v1() -> None:
    resources = Resources(cpu=Cpu(shares=2), unified={"cpu.weight": "200"})
    assert values(1, resources)["cpu.shares"] == "2048"
    assert lay_out(hierarchy(1, "cpu"), resources).warnings == ()
    for bad in ("0", "10001", "many"):
        with pytest.raises(ContainerError, match=r"unified\.cpu\.weight"):
            values(1, Resources(unified={"cpu.weight": bad}))


@pytest.mark.parametrize(
    ("weight", "bfq"), [("default 1", 1), ("100", 100), ("default 1000", 1000), ("10000", 1000)]
)
def test_io_weight_in_v2_words_works_everywhere(weight: str, bfq: int) -> None:
    resources = Resources(unified={"io.weight": weight})
    assert values(1, resources)["blkio.bfq.weight"] == str(bfq)
    assert values(2, resources)["io.bfq.weight"] == f"default {bfq}"
    layout = lay_out(hierarchy(2, "io"), resources)
    (io,) = (w for part in layout.parts for w in part.works if w.controller.name == "io")
    assert io.needed
    settings = {s.file: s for s in io.settings}
    assert settings["io.weight"].value == weight
    assert settings["io.weight"].same(weight, f"default {weight.removeprefix('default ')}\n8:0 50")
    assert settings["io.weight"].field == settings["io.bfq.weight"].field == "unified.io.weight"
    on_1 = lay_out(hierarchy(1, "memory", "blkio"), resources)
    assert on_1.warnings == ()
    assert "/cg/blkio" in {part.mount for part in on_1.parts if part.needed}
    (warning,) = lay_out(hierarchy(1, "memory"), resources).warnings
    assert warning == (
        "unified.io.weight: the requested cgroup controller `io` is not available on cgroup v2 here"
    )
    for bad in ("0", "10001", "8:0 100"):
        with pytest.raises(ContainerError, match=r"unified\.io\.weight"):
            values(1, Resources(unified={"io.weight": bad}))


def test_unified_overrides_and_adds_files_on_v2() -> None:
    resources = Resources(
        memory=Memory(limit=MIB),
        unified={"memory.high": "512K", "cpu.weight": "200", "hugetlb.2MB.max": "0"},
    )
    layout = lay_out(hierarchy(2, "memory", "cpu", "hugetlb"), resources)
    settings = {s.file: s for part in layout.parts for w in part.works for s in w.settings}
    assert settings["memory.high"].value == "512K"
    assert settings["memory.high"].same("512K", "524288")
    assert settings["cpu.weight"].value == "200"
    assert settings["hugetlb.2MB.max"].field == "unified.hugetlb.2MB.max"
    assert layout.warnings == ()


def test_unified_on_a_v1_host_is_a_warning() -> None:
    found = lay_out(hierarchy(1, "memory"), Resources(unified={"memory.high": "1M"}))
    expected = "unified.memory.high: the requested cgroup controller `memory` is not available"
    assert found.warnings == (f"{expected} on cgroup v2 here",)


@pytest.mark.parametrize("file", ["../memory.max", "memory", "a.b/c"])
def test_unified_takes_file_names_only(file: str) -> None:
    with pytest.raises(ContainerError, match="has not the form CONTROLLER"):
        lay_out(hierarchy(2, "memory"), Resources(unified={file: "1"}))


def test_on_demand_controllers_are_not_made_without_being_asked_for() -> None:
    found = hierarchy(1, "memory", "cpuset", "devices", "blkio", "freezer")
    needed = {p.mount for p in lay_out(found, Resources()).parts if p.needed}
    assert needed == {"/cg/memory", "/cg/freezer"}
    asked = Resources(cpu=Cpu(cpus="0"), devices=(rule("-a"),), block_io=BlockIo(weight=200))
    needed = {p.mount for p in lay_out(found, asked).parts if p.needed}
    assert needed == {f"/cg/{name}" for name in found.places}


def test_a_user_goes_without_the_limit_of_processes_only_if_nobody_asked_for_it() -> None:
    delegated = dataclasses.replace(hierarchy(2, "memory"), confined=True)
    (warning,) = lay_out(delegated, Resources(pids=Pids(specs.Resources().pids or 0))).warnings
    assert warning.startswith("pids.limit: no cgroup")
    with pytest.raises(
        UnsupportedHostError, match=r"pids\.limit: .* there: memory; .*Delegate=cpu"
    ):
        refuse(lay_out(delegated, Resources(pids=Pids(DEFAULT_PIDS - 1))))
