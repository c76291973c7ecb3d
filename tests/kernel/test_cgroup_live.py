"""Limits of groups in the real hierarchies of this host.

Most tests hold on v1, v2 and hybrid hosts alike; the classes at the end are for one kind each and
are not collected on another.
"""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.cgroup.group import Cgroup
from runtime.errors import ContainerError, NotFoundError, StateError, UnsupportedHostError
from runtime.spec import (
    BlockIo,
    Cpu,
    DeviceRule,
    Memory,
    Pids,
    Resources,
    ThrottleDevice,
)
from tests.support.host import cannot
from tests.support.livegroup import HOST, LIMITS, MIB, folder, group_of, member

pytestmark = pytest.mark.kernel


@pytest.fixture
def group(world: Path) -> Iterator[Cgroup]:
    with group_of(world) as made:
        yield made


def test_limits_reach_the_kernel_and_are_no_deviation(group: Cgroup) -> None:
    assert group.create(LIMITS) == ()
    assert group.exists()
    assert group.deviations(LIMITS) == ()
    assert group.create(LIMITS) == ()
    stats = group.stats()
    assert (stats.memory_limit_bytes, stats.pids_limit) == (64 * MIB, 100)


def test_kernel_rounding_is_no_deviation(group: Cgroup) -> None:
    odd = Resources(
        memory=Memory(limit=64 * MIB + 777, swap=80 * MIB + 1, reservation=12345678),
        cpu=Cpu(shares=1, quota=12_345, period=67_890),
        pids=Pids(1),
    )
    group.create(odd)
    assert group.deviations(odd) == ()


def test_limits_go_up_and_down_in_any_order(group: Cgroup) -> None:
    """v1 refuses memory above memory plus swap, so the order of writes depends."""
    group.create(Resources())
    sizes = [(32, 32), (128, 256), (16, 16), (200, 200), (64, 1000), (100, None), (None, None)]
    for limit, swap in (*sizes, *reversed(sizes)):
        memory = Memory(limit=limit and limit * MIB, swap=swap and swap * MIB)
        resources = Resources(memory=memory, cpu=Cpu(quota=(limit or 0) * 1000 or None))
        assert group.update(resources) == ()
        assert group.deviations(resources) == ()


def test_update_without_limits_goes_back_to_defaults(group: Cgroup) -> None:
    group.create(LIMITS)
    group.update(Resources())
    assert group.deviations(Resources()) == ()
    assert len(group.deviations(LIMITS)) == 6


def test_update_of_no_group(group: Cgroup) -> None:
    with pytest.raises(NotFoundError):
        group.update(LIMITS)
    assert not group.exists()


def test_refused_value_is_said_in_words(group: Cgroup) -> None:
    group.create(Resources())
    with pytest.raises(ContainerError, match=r"cpu\.quota cannot be '5.*at least 1000"):
        group.update(Resources(cpu=Cpu(quota=5)))
    with pytest.raises(ContainerError, match=r"cpu\.cpus cannot be '9999'.*the host has online"):
        group.update(Resources(cpu=Cpu(cpus="9999")))


def test_memory_limit_below_what_is_in_use_is_refused_in_words(group: Cgroup) -> None:
    group.create(LIMITS)
    with member(group, "keep = bytearray(os.urandom(1)) * (40 << 20)"):
        with pytest.raises(StateError, match=f"cannot be {8 * MIB} bytes: [0-9]+ are in use"):
            group.update(Resources(memory=Memory(limit=8 * MIB)))
        used = group.stats().memory_bytes
        assert used is not None
        assert 40 * MIB < used < 64 * MIB
    group.kill()


V1_EDITS = [
    ("memory", "memory.limit_in_bytes", "50M", "memory.limit"),
    ("memory", "memory.memsw.limit_in_bytes", "-1", "memory.swap"),
    ("memory", "memory.soft_limit_in_bytes", "1M", "memory.reservation"),
    ("cpu", "cpu.shares", "1024", "cpu.shares"),
    ("cpu", "cpu.cfs_quota_us", "-1", "cpu.quota"),
    ("cpu", "cpu.cfs_period_us", "200000", "cpu.period"),
]


V2_EDITS = [
    ("memory", "memory.max", "50M", "memory.limit"),
    ("memory", "memory.swap.max", "max", "memory.swap"),
    ("memory", "memory.low", "1M", "memory.reservation"),
    ("memory", "memory.high", "1M", "unified.memory.high"),
    ("memory", "memory.oom.group", "1", "unified.memory.oom.group"),
    ("cpu", "cpu.weight", "100", "cpu.shares"),
    ("cpu", "cpu.max", "max", "cpu.quota"),
    ("cpu", "cpu.max", "50000 200000", "cpu.quota"),
]


EDITS = [
    *(edit for edit in V1_EDITS if edit[0] in HOST.on(1)),
    *(edit for edit in V2_EDITS if edit[0] in HOST.on(2)),
    ("pids", "pids.max", "max", "pids.limit"),
]


@pytest.mark.parametrize(("controller", "file", "value", "field"), EDITS)
def test_limit_edited_by_hand_is_found_and_mended(
    group: Cgroup, controller: str, file: str, value: str, field: str
) -> None:
    group.create(LIMITS)
    path = folder(group, controller) / file
    path.write_text(value)
    (found,) = group.deviations(LIMITS)
    assert (found.field, found.file, found.actual) == (field, str(path), path.read_text().strip())
    group.update(LIMITS)
    assert group.deviations(LIMITS) == ()


def test_cpuset_comes_on_demand_to_a_living_group(group: Cgroup) -> None:
    group.create(LIMITS)
    assert not (folder(group, "cpuset") / "cpuset.cpus").exists()
    with member(group) as child:
        resources = Resources(cpu=Cpu(cpus="0"))
        assert {d.actual for d in group.deviations(resources)} >= {None}
        assert group.update(resources) == ()
        assert os.sched_getaffinity(child.pid) == {0}
        assert group.deviations(resources) == ()
        (folder(group, "cpuset") / "cpuset.cpus").write_text("0-1")
        (found,) = group.deviations(resources)
        assert (found.field, found.actual) == ("cpu.cpus", "0-1")
        group.update(Resources())
        assert len(os.sched_getaffinity(child.pid)) == os.cpu_count()


def test_hundred_groups_are_compared_quickly(group: Cgroup) -> None:
    """Measured 1.4 ms per group and more on slow machines, so the measure is plain reading."""
    parent = group.name.split("/")[0]
    groups = [Cgroup(HOST, f"{parent}/c{number}") for number in range(100)]
    for each in groups:
        each.create(LIMITS)
    places = [folder(each, "pids") / "pids.max" for each in groups]
    begin = time.process_time()
    for _ in range(7):
        for place in places:
            place.read_text()
    plain = time.process_time() - begin
    begin = time.process_time()
    found = [each.deviations(LIMITS) for each in groups]
    spent = time.process_time() - begin
    for each in groups:
        each.delete()
    assert found == [()] * 100
    assert spent < 4 * plain


class TestV1:
    """Only where a controller is on v1."""

    __test__ = "memory" in HOST.on(1)

    def test_group_removed_in_one_hierarchy_is_found_and_made_again(self, group: Cgroup) -> None:
        group.create(LIMITS)
        folder(group, "memory").rmdir()
        (found,) = group.deviations(LIMITS)
        assert (found.field, found.file) == ("group", str(folder(group, "memory")))
        group.create(LIMITS)
        assert group.deviations(LIMITS) == ()

    def test_device_rules_decide_what_can_be_opened(self, group: Cgroup) -> None:
        rules = (
            DeviceRule(allow=False, access="rwm"),
            DeviceRule(allow=True, type="c", major=1, minor=3, access="rwm"),
            DeviceRule(allow=True, type="c", major=1, minor=5, access="r"),
        )
        resources = Resources(devices=rules)
        assert group.create(resources) == ()
        assert group.deviations(resources) == ()
        look = """
def can(path, flags):
    try: os.close(os.open(path, flags))
    except PermissionError: return False
    return True
found = [can("/dev/null", os.O_RDWR), can("/dev/zero", os.O_RDONLY), can("/dev/zero", os.O_WRONLY),
         can("/dev/full", os.O_RDONLY)]
assert found == [True, True, False, False], found
"""
        with member(group, look):
            pass
        group.kill()
        wider = Resources(devices=(*rules, DeviceRule(allow=True, type="c", major=1, minor=7)))
        assert [d.field for d in group.deviations(wider)] == ["devices"]
        group.update(wider)
        assert group.deviations(wider) == ()
        group.update(resources)
        assert group.deviations(resources) == ()
        group.update(Resources())
        assert (folder(group, "devices") / "devices.list").read_text() == "a *:* rwm\n"

    def test_io_limits(self, group: Cgroup) -> None:
        limits = disk_limits(1 << 20)
        if limits is None:
            cannot("it has no disk to throttle")
        device, resources = limits
        assert group.create(resources) == ()
        assert group.deviations(resources) == ()
        path = folder(group, "blkio") / "blkio.throttle.write_bps_device"
        assert path.read_text() == f"{device} {1 << 20}\n"
        path.write_text(f"{device} 0")
        assert [d.field for d in group.deviations(resources)] == ["blockIO.throttleWriteBpsDevice"]
        group.update(resources)
        group.update(Resources())
        assert path.read_text() == ""


class TestV2:
    """Only where the controllers are on v2."""

    __test__ = "memory" in HOST.on(2)

    def test_processes_in_a_group_above_are_the_reason(self, group: Cgroup) -> None:
        parent = Cgroup(HOST, group.name.split("/")[0])
        Path(HOST.unified or "", parent.name).mkdir()
        with (
            member(parent),
            pytest.raises(UnsupportedHostError, match="processes in that cgroup itself"),
        ):
            group.create(LIMITS)

    def test_io_limits(self, group: Cgroup) -> None:
        limits = disk_limits(1 << 20)
        if limits is None:
            cannot("it has no disk to throttle")
        device, resources = limits
        assert group.create(resources) == ()
        path = folder(group, "io") / "io.max"
        assert path.read_text() == f"{device} rbps=max wbps={1 << 20} riops=max wiops=max\n"
        path.write_text(f"{device} wbps=max riops=7")
        assert [d.field for d in group.deviations(resources)] == ["blockIO.throttle"]
        group.update(resources)
        assert group.deviations(resources) == ()
        group.update(Resources())
        assert path.read_text() == ""


class TestHybrid:
    """The v2 code on a live kernel, as far as a host whose controllers are on v1 has it."""

    __test__ = HOST.mode == "hybrid" and not HOST.uses_unified

    def test_v2_part_freezes_and_kills(self, group: Cgroup) -> None:
        group.create(LIMITS, tracking=True)
        unified = group.birth_folder()
        assert unified is not None
        with member(group) as child:
            group.freeze()
            assert "frozen 1" in Path(unified, "cgroup.events").read_text()
            assert group.is_frozen()
            group.thaw()
            assert (group.stats().cpu_ns or 0) > 0
            group.kill()
            assert child.wait() == -signal.SIGKILL
        group.delete()
        assert not Path(unified).exists()

    def test_controller_left_on_v2_is_switched_on_and_set(self, group: Cgroup) -> None:
        if "hugetlb" not in HOST.on(2):
            cannot("no controller is left on v2 here")
        resources = Resources(unified={"hugetlb.2MB.max": "4M"})
        switch = Path(HOST.unified or "", "cgroup.subtree_control")
        before = switch.read_text()
        try:
            assert group.create(resources) == ()
            unified = Path(group.birth_folder() or "")
            assert (unified / "hugetlb.2MB.max").read_text() == f"{4 * MIB}\n"
            assert group.deviations(resources) == ()
            (unified / "hugetlb.2MB.max").write_text("max")
            assert [d.field for d in group.deviations(resources)] == ["unified.hugetlb.2MB.max"]
            group.update(resources)
            assert group.deviations(resources) == ()
        finally:
            group.delete()
            Cgroup(HOST, group.name.split("/")[0]).delete()
            if "hugetlb" not in before:
                switch.write_text("-hugetlb")


def disk_limits(write_bps: int) -> tuple[str, Resources] | None:
    """Return the first disk, as ``major:minor``, and resources that throttle writes to it."""
    for disk in sorted(Path("/sys/block").iterdir()):
        if disk.name.startswith(("vd", "sd", "nvme")):
            device = (disk / "dev").read_text().strip()
            major, minor = map(int, device.split(":"))
            throttle = (ThrottleDevice(major, minor, write_bps),)
            return device, Resources(block_io=BlockIo(throttle_write_bps_device=throttle))
    return None


def test_unknown_disk_is_refused_in_words(group: Cgroup) -> None:
    unknown = BlockIo(throttle_read_bps_device=(ThrottleDevice(4095, 9, 1),))
    with pytest.raises(ContainerError, match="whole disks only"):
        group.create(Resources(block_io=unknown))
