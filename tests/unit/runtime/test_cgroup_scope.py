"""Scopes of systemd: names, and limits in its words."""

import pytest

from runtime.cgroup.hierarchy import Hierarchy, Place
from runtime.cgroup.scope import limit_properties, scope_of
from runtime.cgroup.variant import annotated_properties, parse_variant
from runtime.errors import ContainerError
from runtime.spec import BlockIo, Cpu, DeviceRule, Memory, Pids, Resources

NAMES = ("cpu", "memory", "pids", "cpuset", "devices")
V2 = Hierarchy(dict.fromkeys((*NAMES, "io"), Place(2, "/cg")), "/cg")
V1 = Hierarchy(dict.fromkeys((*NAMES, "blkio"), Place(1, "/cg")), None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "group"),
    [
        (None, "system.slice/bayplan-oci-box.scope"),
        (":cri:abc", "system.slice/cri-abc.scope"),
        ("machine.slice:libpod:abc", "machine.slice/libpod-abc.scope"),
        ("user-1000.slice::abc", "user.slice/user-1000.slice/abc.scope"),
        ("a-b-c.slice:p:n", "a.slice/a-b.slice/a-b-c.slice/p-n.scope"),
        ("-.slice:p:n", "p-n.scope"),
    ],
)
def test_where_a_scope_is(path, group):
    assert scope_of(path, "box").group == group


@pytest.mark.parametrize(
    "path",
    [
        *("/a/b", "a:b", "a.slice:b:", "a:b:c", "-a.slice:b:c", "a--b.slice:b:c", "x:y:z:0"),
        *("a.slice:b:c/d", "a.slice:b:c d", ".slice:b:c", f"a.slice:b:{'n' * 250}"),
    ],
)
def test_paths_that_name_no_scope(path):
    with pytest.raises(ContainerError, match="cgroupsPath"):
        scope_of(path, "box")


LIMITS = Resources(
    memory=Memory(limit=1 << 26, swap=3 << 25, reservation=1 << 20),
    cpu=Cpu(shares=1024, quota=33_333, period=100_000, cpus="0-1,9", mems="0"),
    pids=Pids(5),
    block_io=BlockIo(weight=500),
    devices=(DeviceRule(False), DeviceRule(True, "c", 1, 3, "rwm"), DeviceRule(True, "b", 8)),
)


def test_limits_on_v2():
    assert dict(limit_properties(LIMITS, V2)) == {
        "MemoryMax": ("t", 1 << 26),
        "MemorySwapMax": ("t", 1 << 25),
        "MemoryLow": ("t", 1 << 20),
        "CPUWeight": ("t", 39),
        "CPUQuotaPeriodUSec": ("t", 100_000),
        "CPUQuotaPerSecUSec": ("t", 340_000),
        "AllowedCPUs": ("ay", b"\x03\x02"),
        "AllowedMemoryNodes": ("ay", b"\x01"),
        "TasksMax": ("t", 5),
        "IOWeight": ("t", 4950),
    }


def test_limits_on_v1():
    assert dict(limit_properties(LIMITS, V1)) == {
        "MemoryLimit": ("t", 1 << 26),
        "CPUShares": ("t", 1024),
        "CPUQuotaPeriodUSec": ("t", 100_000),
        "CPUQuotaPerSecUSec": ("t", 340_000),
        "TasksMax": ("t", 5),
        "BlockIOWeight": ("t", 500),
        "DevicePolicy": ("s", "strict"),
        "DeviceAllow": ("a(ss)", [("/dev/char/1:3", "mrw"), ("block-8", "mrw")]),
    }


def test_no_limit_is_said_too():
    resources = Resources(memory=Memory(limit=-1, swap=-1), cpu=Cpu(quota=-1), pids=Pids(-1))
    infinity = ("t", 2**64 - 1)
    assert dict(limit_properties(resources, V2)) == {
        "MemoryMax": infinity,
        "MemorySwapMax": infinity,
        "CPUQuotaPeriodUSec": infinity,
        "CPUQuotaPerSecUSec": infinity,
        "TasksMax": infinity,
    }
    assert limit_properties(Resources(), V2) == []


def test_limits_in_v2s_own_words():
    unified = {
        "memory.high": "64M",
        "memory.max": "max",
        "cpu.max": "50000 100000",
        "cpuset.cpus": "0",
        "io.weight": "default 50",
        "hugetlb.2MB.max": "0",
    }
    assert dict(limit_properties(Resources(unified=unified), V2)) == {
        "MemoryHigh": ("t", 1 << 26),
        "MemoryMax": ("t", 2**64 - 1),
        "CPUQuotaPeriodUSec": ("t", 100_000),
        "CPUQuotaPerSecUSec": ("t", 500_000),
        "AllowedCPUs": ("ay", b"\x01"),
        "IOWeight": ("t", 50),
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", ("b", True)),
        ("-5", ("i", -5)),
        ("0x10", ("i", 16)),
        ("uint64 5", ("t", 5)),
        ("1.5", ("d", 1.5)),
        ("'it\\'s'", ("s", "it's")),
        ('"a b"', ("s", "a b")),
        ("['a.service', 'b.service']", ("as", ["a.service", "b.service"])),
        ("[uint64 1, 2]", ("at", [1, 2])),
        ("[]", ("as", [])),
    ],
)
def test_values_of_annotations(text, value):
    assert parse_variant(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "x", "'x", "[1", "1 2", "uint64", "uint64 'x'", "[1, 'a']", "[1 2]", "(1, 2)", "true]"],
)
def test_values_that_are_none(text):
    with pytest.raises(ContainerError):
        parse_variant(text)


def test_properties_of_annotations():
    found = annotated_properties(
        {
            "org.systemd.property.CollectMode": "'inactive'",
            "org.systemd.property.TimeoutStopSec": "uint64 5",
            "other": "x",
        }
    )
    assert found == [("CollectMode", ("s", "inactive")), ("TimeoutStopUSec", ("t", 5_000_000))]
    for key in ("org.systemd.property.x", "org.systemd.property.", "org.systemd.property.A-B"):
        with pytest.raises(ContainerError, match="no name of a property"):
            annotated_properties({key: "1"})
