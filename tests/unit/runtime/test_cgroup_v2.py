"""Limits on cgroup v2, set and compared over a fake tree."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from errno import EBUSY
from pathlib import Path

import pytest

from runtime.cgroup import files
from runtime.cgroup.group import Cgroup
from runtime.cgroup.hierarchy import Hierarchy
from runtime.errors import (
    ContainerError,
    KernelError,
    NotFoundError,
    StateError,
    UnsupportedHostError,
)
from runtime.spec import (
    BlockIo,
    Cpu,
    Memory,
    Pids,
    Resources,
    ThrottleDevice,
)
from tests.support.cgroup_v2 import CONTROLLERS, Host

MIB = 1 << 20


LIMITS = Resources(
    memory=Memory(limit=64 * MIB + 1, reservation=32 * MIB, swap=96 * MIB + 1),
    cpu=Cpu(shares=512, quota=50_000),
    pids=Pids(100),
    block_io=BlockIo(weight=200, throttle_read_bps_device=(ThrottleDevice(8, 0, 1000),)),
)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


@contextlib.contextmanager
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    code = "import sys; print(flush=True); sys.stdin.read()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-IS", "-c", code], stdin=pipe, stdout=pipe) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child
        child.kill()


def test_create_writes_every_limit(host: Host) -> None:
    host.make()
    before = host.files()
    assert host.group.create(LIMITS) == ()
    assert host.read("memory.max") == str(64 * MIB + 1)
    assert host.read("memory.swap.max") == str(32 * MIB)
    assert host.read("memory.low") == str(32 * MIB)
    assert host.read("cpu.max") == "50000 100000"
    assert host.read("cpu.weight") == "20"
    assert host.read("pids.max") == "100"
    assert host.read("io.weight") == "default 1920"
    assert host.read("io.max") == "8:0 rbps=1000 wbps=max riops=max wiops=max"
    assert host.files() == before


def test_controllers_are_switched_on_from_the_top_down_to_the_parent(host: Host) -> None:
    host.make(cgroup_controllers="\n")
    host.group.create(Resources())
    assert (host.root / "cgroup.subtree_control").read_text() == "+cpu +io +memory +pids"
    assert (host.parent / "cgroup.subtree_control").read_text() == "+cpu +io +memory +pids"
    # A group with members must not hand controllers on: v2's rule of no internal processes.
    assert host.read("cgroup.subtree_control") == ""


def test_only_missing_controllers_are_switched_on(host: Host) -> None:
    host.make(cgroup_controllers="cpu\n")
    host.write(host.root, {"cgroup.subtree_control": "cpu io memory\n"})
    host.write(host.parent, {"cgroup.subtree_control": "cpu io memory pids\n"})
    host.group.create(Resources())
    assert (host.root / "cgroup.subtree_control").read_text() == "+pids"
    assert (host.parent / "cgroup.subtree_control").read_text() == "cpu io memory pids\n"


def test_nothing_is_switched_on_twice(host: Host) -> None:
    host.make()
    host.group.create(Resources())
    assert (host.root / "cgroup.subtree_control").read_text() == ""


def test_cpuset_and_unified_controllers_are_switched_on_only_when_asked_for(host: Host) -> None:
    host.make(hugetlb_2MB_max="max\n", cpuset_cpus="\n", cpuset_mems="\n")
    host.write(host.parent, {"cgroup.controllers": CONTROLLERS})
    host.group.create(Resources(cpu=Cpu(cpus="0"), unified={"hugetlb.2MB.max": "0"}))
    assert (host.root / "cgroup.subtree_control").read_text() == (
        "+cpu +cpuset +hugetlb +io +memory +pids"
    )
    assert host.read("cpuset.cpus") == "0"
    assert host.read("hugetlb.2MB.max") == "0"


def test_processes_in_a_group_above_are_named_as_the_reason(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.make(cgroup_controllers="\n")
    plain_write = files.write

    def write(path: str, *values: str) -> None:
        if path.endswith("cgroup.subtree_control"):
            raise KernelError(EBUSY, "write", path)
        plain_write(path, *values)

    monkeypatch.setattr(files, "write", write)
    with pytest.raises(UnsupportedHostError, match=r"processes in that cgroup itself"):
        host.group.create(Resources())


def test_parents_are_made_on_a_fresh_host(host: Host) -> None:
    """The plain folders here get no files, which is as far as a fake goes."""
    group = Cgroup(host.hierarchy, "bayplan-new/box")
    with pytest.raises(KernelError, match="ENOENT"):
        group.create(Resources())
    assert (host.root / "bayplan-new" / "box").is_dir()


def test_create_twice_changes_nothing_the_second_time(host: Host) -> None:
    host.make()
    host.group.create(LIMITS)
    for path in host.folder.iterdir():
        os.utime(path, (0, 0))
    host.group.create(LIMITS)
    assert [path.name for path in host.folder.iterdir() if path.stat().st_mtime] == []


def test_update_takes_limits_off_again(host: Host) -> None:
    host.make()
    host.group.create(LIMITS)
    assert host.group.update(Resources()) == ()
    assert host.read("memory.max") == "max"
    assert host.read("memory.swap.max") == "max"
    assert host.read("memory.low") == "0"
    assert host.read("cpu.max") == "max 100000"
    assert host.read("cpu.weight") == "100"
    assert host.read("pids.max") == "max"
    assert host.read("io.max") == "8:0 rbps=max wbps=max riops=max wiops=max"
    assert host.group.deviations(Resources()) == ()


def test_files_of_io_that_we_know_nothing_of_are_written_as_they_are(host: Host) -> None:
    host.make(io_latency="")
    for value in ("8:0 target=100", "8:0 target=200"):
        assert host.group.update(Resources(unified={"io.latency": value})) == ()
        assert host.read("io.latency") == value


def test_update_writes_only_the_device_that_differs(host: Host) -> None:
    same = "8:0 rbps=5 wbps=max riops=max wiops=max"
    host.make(io_max=f"{same}\n8:16 rbps=1 wbps=max riops=max wiops=max\n")
    devices = (ThrottleDevice(8, 0, 5), ThrottleDevice(8, 16, 2))
    host.group.update(Resources(block_io=BlockIo(throttle_read_bps_device=devices)))
    assert host.read("io.max") == "8:16 rbps=2 wbps=max riops=max wiops=max"


def test_update_of_no_group_is_an_error_and_makes_none(host: Host) -> None:
    with pytest.raises(NotFoundError, match="no such cgroup: bayplan-t/box"):
        host.group.update(Resources())
    assert not host.folder.exists()


def test_bfq_weight_is_preferred_where_there_is_only_bfq(host: Host) -> None:
    host.make(io_weight=None, io_bfq_weight="default 100\n")
    assert host.group.create(Resources(block_io=BlockIo(weight=200))) == ()
    assert host.read("io.bfq.weight") == "default 200"


def test_missing_optional_files_are_warnings_not_new_files(host: Host) -> None:
    host.make(memory_swap_max=None, io_weight=None)
    before = host.files()
    assert host.group.create(LIMITS) == (
        "memory.swap: the kernel has no swap support",
        "blockIO.weight: weights need the bfq scheduler or the io cost model, "
        "the kernel has neither",
    )
    assert host.files() == before
    assert host.group.deviations(LIMITS) == ()


def test_memory_limit_below_what_is_in_use_is_refused_before_anybody_is_killed(host: Host) -> None:
    host.make(memory_current=f"{80 * MIB}\n", memory_max=f"{100 * MIB}\n")
    with pytest.raises(StateError, match=f"cannot be {64 * MIB} bytes: {80 * MIB} are in use"):
        host.group.update(Resources(memory=Memory(limit=64 * MIB)))
    assert host.read("memory.max") == str(100 * MIB)
    assert host.read("memory.reclaim") == str(16 * MIB)


def test_refused_value_names_field_and_what_is_allowed(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.make()

    def write(path: str, *_: str) -> None:
        raise KernelError(22, "write", path)

    monkeypatch.setattr(files, "write", write)
    with pytest.raises(ContainerError, match=r"cpu\.quota cannot be '5 100000' \(quota at least"):
        host.group.update(Resources(cpu=Cpu(quota=5)))


def test_no_deviation_after_create(host: Host) -> None:
    host.make(cgroup_controllers=CONTROLLERS, cpuset_cpus="\n", cpuset_mems="\n")
    resources = Resources(
        memory=LIMITS.memory,
        cpu=Cpu(shares=2, quota=1000, period=5000, cpus="0,1,2", mems="0"),
        pids=LIMITS.pids,
        block_io=LIMITS.block_io,
        unified={"memory.high": "10M", "memory.oom.group": "1"},
    )
    host.group.create(resources)
    # What the kernel gives back for what was written.
    host.write(
        host.folder,
        {
            "memory.max": f"{64 * MIB}\n",
            "memory.high": f"{10 * MIB}\n",
            "cpuset.cpus": "0-2\n",
            "io.weight": "default 1920\n8:0 50\n",
        },
    )
    assert host.group.deviations(resources) == ()


@pytest.mark.parametrize(
    ("file", "content", "field"),
    [
        ("memory.max", "max", "memory.limit"),
        ("memory.max", "4096", "memory.limit"),
        ("memory.swap.max", "0", "memory.swap"),
        ("memory.low", "0", "memory.reservation"),
        ("memory.high", "4096", "unified.memory.high"),
        ("memory.oom.group", "1", "unified.memory.oom.group"),
        ("cpu.max", "max 100000", "cpu.quota"),
        ("cpu.max", "50000 50000", "cpu.quota"),
        ("cpu.weight", "60", "cpu.shares"),
        ("pids.max", "max", "pids.limit"),
        ("io.weight", "default 1", "blockIO.weight"),
        ("io.max", "", "blockIO.throttle"),
        ("io.max", "8:0 rbps=1000 wbps=1 riops=max wiops=max", "blockIO.throttle"),
    ],
)
def test_every_file_changed_by_hand_is_a_deviation_that_update_mends(
    host: Host, file: str, content: str, field: str
) -> None:
    host.make()
    host.group.create(LIMITS)
    expected = host.read(file)
    host.write(host.folder, {file: content + "\n"})
    (found,) = host.group.deviations(LIMITS)
    assert (found.field, found.actual) == (field, content)
    assert found.file == str(host.folder / file)
    host.group.update(LIMITS)
    assert host.group.deviations(LIMITS) == ()
    assert host.read(file).split()[:2] == expected.split()[:2]


def test_limit_by_hand_where_none_is_wanted_is_a_deviation(host: Host) -> None:
    host.make()
    host.group.create(Resources())
    host.write(host.folder, {"memory.max": "4096\n", "pids.max": "1\n"})
    found = host.group.deviations(Resources())
    assert [(d.field, d.expected, d.actual) for d in found] == [
        ("memory.limit", "max", "4096"),
        ("pids.limit", "max", "1"),
    ]
    assert str(found[1]) == f"pids.limit: {host.folder}/pids.max is '1', expected 'max'"


def test_missing_group_is_one_deviation(host: Host) -> None:
    (found,) = host.group.deviations(LIMITS)
    assert (found.field, found.file, found.actual) == ("group", str(host.folder), None)


def test_controller_switched_off_is_a_deviation(host: Host) -> None:
    host.make(pids_max=None)
    (found,) = host.group.deviations(Resources())
    assert (found.field, found.actual) == ("pids.limit", None)
    assert str(found) == f"pids.limit: {host.folder}/pids.max is missing, expected 'max'"


def test_hybrid_host_with_memory_on_v2_and_the_rest_on_v1(host: Host, tmp_path: Path) -> None:
    host.write(host.root, {"cgroup.controllers": "memory\n"})
    v1 = {
        "cpu": {"cpu.shares": "1024", "cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"},
        "freezer": {"freezer.state": "THAWED"},
    }
    lines = [f"30 20 0:30 / {host.root} rw - cgroup2 cgroup2 rw"]
    for name, content in v1.items():
        files_1 = {key: value + "\n" for key, value in content.items()}
        host.write(tmp_path / name / "bayplan-t" / "box", files_1 | {"cgroup.procs": "7\n"})
        lines.append(f"31 20 0:31 / {tmp_path / name} rw - cgroup cgroup rw,{name}")
    (tmp_path / "mountinfo").write_text("\n".join(lines) + "\n")
    hierarchy = Hierarchy.detect(str(tmp_path / "mountinfo"))
    assert hierarchy.mode == "hybrid"
    host.make(cgroup_controllers="memory\n", cgroup_procs="8\n")
    group = Cgroup(hierarchy, "bayplan-t/box")
    resources = Resources(memory=Memory(limit=MIB), cpu=Cpu(quota=1000, shares=2))
    assert group.create(resources) == ()
    assert host.read("memory.max") == str(MIB)
    assert (tmp_path / "cpu/bayplan-t/box/cpu.cfs_quota_us").read_text() == "1000"
    assert group.deviations(resources) == ()
    assert group.pids() == (7, 8)
    assert sorted(os.path.relpath(f, tmp_path) for f in group.join_files()) == [
        "cg/bayplan-t/box/cgroup.procs",
        "cpu/bayplan-t/box/tasks",
        "freezer/bayplan-t/box/tasks",
    ]
    assert group.birth_folder() == str(host.folder)
