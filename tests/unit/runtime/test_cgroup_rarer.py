"""Limits no manifest can ask for, only a config.json: what they come to in files, and on a host."""

from pathlib import Path

import pytest

from runtime.cgroup import Cgroup, Hierarchy, Place
from runtime.cgroup.layout import lay_out
from runtime.errors import ContainerError, StateError
from runtime.kernel import ebpf
from runtime.spec import (
    BlockIo,
    Cpu,
    HugepageLimit,
    InterfacePriority,
    Memory,
    NetworkResources,
    Rdma,
    Resources,
    WeightDevice,
)

RARER = Resources(
    memory=Memory(swappiness=10, disable_oom_killer=True, use_hierarchy=True),
    cpu=Cpu(quota=50_000, burst=20_000, realtime_runtime=1000, realtime_period=90_000, idle=1),
    block_io=BlockIo(weight_device=(WeightDevice(8, 0, weight=200),)),
    hugepage_limits=(HugepageLimit("2MB", 4 << 20),),
    network=NetworkResources(0x100001, (InterfacePriority("lo", 3),)),
    rdma={"mlx5_1": Rdma(3, 10000)},
)
ON_V1 = {
    "memory/memory.swappiness": "10",
    "memory/memory.oom_control": "1",
    "memory/memory.use_hierarchy": "1",
    "cpu/cpu.cfs_burst_us": "20000",
    "cpu/cpu.rt_runtime_us": "1000",
    "cpu/cpu.rt_period_us": "90000",
    "cpu/cpu.idle": "1",
    "blkio/blkio.bfq.weight_device": "8:0 200",
    "hugetlb/hugetlb.2MB.limit_in_bytes": "4194304",
    "hugetlb/hugetlb.2MB.rsvd.limit_in_bytes": "4194304",
    "net_cls/net_cls.classid": "1048577",
    "net_prio/net_prio.ifpriomap": "lo 3",
    "rdma/rdma.max": "mlx5_1 hca_handle=3 hca_object=10000",
}
ON_V2 = {
    "cpu.max.burst": "20000",
    "cpu.idle": "1",
    "io.bfq.weight": "8:0 200",
    "io.weight": "8:0 1920",
    "hugetlb.2MB.max": "4194304",
    "hugetlb.2MB.rsvd.max": "4194304",
    "rdma.max": "mlx5_1 hca_handle=3 hca_object=10000",
}


_NEW = {"max": "max\n", "low": "0\n", "high": "max\n", "limit_in_bytes": "-1\n"}
"""What a new group's sizes are, by the end of the file's name."""
_NEW["soft_limit_in_bytes"] = "-1\n"


class Host:
    """A host in a folder; files of a new group are there beforehand, as the kernel makes them."""

    def __init__(self, folder: Path, *, v1: tuple[str, ...] = (), v2: str | None = None) -> None:
        self.folder = folder
        lines = []
        for name in v1:
            (folder / name / "box").mkdir(parents=True)
            lines.append(f"30 20 0:30 / {folder / name} rw - cgroup cgroup rw,{name}")
        if v2 is not None:
            (folder / "v2" / "box").mkdir(parents=True)
            (folder / "v2" / "cgroup.controllers").write_text(v2)
            self.write("v2", {"cgroup.controllers": v2, "cgroup.subtree_control": ""})
            lines.append(f"30 20 0:30 / {folder / 'v2'} rw - cgroup2 cgroup2 rw")
        (folder / "mountinfo").write_text("\n".join(lines) + "\n")
        self.group = Cgroup.of_caller(Hierarchy.detect(str(folder / "mountinfo")), "box")

    def write(self, where: str, content: dict[str, str]) -> None:
        for name, text in content.items():
            (self.folder / where / "box" / name).write_text(text)

    def offer(self, *names: str) -> None:
        for name in names:
            where, _, file = name.rpartition("/")
            self.write(where, {file: _NEW.get(file.rpartition(".")[2], "")})

    def read(self, name: str) -> str:
        where, _, file = name.rpartition("/")
        return (self.folder / where / "box" / file).read_text()


@pytest.fixture(autouse=True)
def no_device_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ebpf, "attached", lambda _group: {})


_V1 = ("memory", "cpu", "blkio", "hugetlb", "net_cls", "net_prio", "rdma")
_V1_LIMITS = (
    *("memory/memory.limit_in_bytes", "memory/memory.memsw.limit_in_bytes"),
    *("memory/memory.soft_limit_in_bytes", "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"),
    "blkio/blkio.bfq.weight",
)
_V2 = "cpu io memory hugetlb rdma"


def test_each_file_on_v1(tmp_path: Path) -> None:
    host = Host(tmp_path, v1=_V1)
    host.offer(*ON_V1, *_V1_LIMITS)
    assert host.group.create(RARER) == ()
    assert {name: host.read(name) for name in ON_V1} == ON_V1


def test_each_file_on_v2_and_what_that_lacks_by_name(tmp_path: Path) -> None:
    host = Host(tmp_path, v2=_V2)
    limits = ("memory.max", "memory.low", "memory.high", "memory.oom.group", "cpu.max", "io.max")
    host.offer(*(f"v2/{name}" for name in (*ON_V2, *limits, "memory.swap.max")))
    missing = host.group.create(RARER)
    assert {name: host.read(f"v2/{name}") for name in ON_V2} == ON_V2
    assert [words.split(":")[0] for words in missing] == [
        "network.classID",
        "network.priorities",
        "memory.swappiness",
        "memory.disableOOMKiller",
        "cpu.realtimePeriod",
        "cpu.realtimeRuntime",
    ]


def test_each_file_where_its_controller_is_on_a_hybrid_host(tmp_path: Path) -> None:
    host = Host(tmp_path, v1=("cpu", "net_cls"), v2="hugetlb rdma")
    on_v1 = [name for name in ON_V1 if name.split("/")[0] in ("cpu", "net_cls")]
    on_v2 = [name for name in ON_V2 if name.split(".")[0] in ("hugetlb", "rdma")]
    host.offer(
        *on_v1, "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us", *(f"v2/{name}" for name in on_v2)
    )
    missing = host.group.create(RARER)
    assert {name: host.read(name) for name in on_v1} == {name: ON_V1[name] for name in on_v1}
    assert {name: host.read(f"v2/{name}") for name in on_v2} == {n: ON_V2[n] for n in on_v2}
    assert {words.split(":")[0] for words in missing} == {
        "memory.swappiness",
        "memory.disableOOMKiller",
        "network.priorities",
        "blockIO.weightDevice",
    }


@pytest.mark.parametrize("version", [1, 2])
def test_what_no_host_has_any_more(version: int) -> None:
    names = ("blkio",) if version == 1 else ("io",)
    hierarchy = Hierarchy(dict.fromkeys(names, Place(version, "/x")), "/x")  # type: ignore[arg-type]
    resources = Resources(block_io=BlockIo(leaf_weight=100))
    works = [work for part in lay_out(hierarchy, resources).parts for work in part.works]
    assert [s.why_absent for w in works for s in w.settings if s.field == "blockIO.leafWeight"]


def test_an_idle_group_has_no_weight_to_write(tmp_path: Path) -> None:
    host = Host(tmp_path, v1=("cpu",))
    host.offer("cpu/cpu.idle", "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")
    host.write("cpu", {"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"})
    host.group.update(Resources(cpu=Cpu(idle=1, shares=512)))
    assert host.read("cpu/cpu.idle") == "1"
    host.offer("cpu/cpu.shares")
    host.group.update(Resources(cpu=Cpu(idle=0, shares=512)))
    assert (host.read("cpu/cpu.idle"), host.read("cpu/cpu.shares")) == ("0", "512")


def test_weights_of_devices_come_and_go(tmp_path: Path) -> None:
    host = Host(tmp_path, v2="io")
    host.write("v2", {"io.weight": "default 100\n8:0 1920\n8:16 50\n", "io.max": ""})
    wanted = Resources(block_io=BlockIo(weight_device=(WeightDevice(8, 0, weight=200),)))
    host.group.update(wanted)
    # A plain file keeps what was written now: the other disk is taken off, ours was right.
    assert host.read("v2/io.weight").startswith("8:16 default")
    host.write("v2", {"io.weight": "default 100\n8:0 1920\n"})
    assert host.group.deviations(wanted) == ()


def test_weights_of_devices_come_and_go_on_v1(tmp_path: Path) -> None:
    host = Host(tmp_path, v1=("blkio",))
    files = {"blkio.bfq.weight": "100\n", "blkio.bfq.weight_device": "default 100\n8:16 50\n"}
    host.write("blkio", files)
    wanted = Resources(block_io=BlockIo(weight_device=(WeightDevice(8, 0, weight=200),)))
    host.group.update(wanted)
    assert host.read("blkio/blkio.bfq.weight_device") == "8:16 default8:0 200"
    host.write("blkio", {"blkio.bfq.weight_device": "default 100\n8:0 200\n"})
    assert host.group.deviations(wanted) == ()


@pytest.mark.parametrize("size", ["2MiB", "2", "0MB", "../2MB", ""])
def test_what_is_no_page_size(size: str) -> None:
    hierarchy = Hierarchy({"hugetlb": Place(2, "/x")}, "/x")
    with pytest.raises(ContainerError, match="no page size"):
        lay_out(hierarchy, Resources(hugepage_limits=(HugepageLimit(size, 1),)))


def test_huge_pages_count_as_the_kernel_counts(tmp_path: Path) -> None:
    host = Host(tmp_path, v2="hugetlb")
    wanted = Resources(hugepage_limits=(HugepageLimit("2MB", (4 << 20) + 5),))
    host.write("v2", {"hugetlb.2MB.max": "4194304\n", "hugetlb.2MB.rsvd.max": "max\n"})
    (found,) = host.group.deviations(wanted)
    assert found.file.endswith("hugetlb.2MB.rsvd.max")


def test_a_page_size_the_host_has_not(tmp_path: Path) -> None:
    host = Host(tmp_path, v2="hugetlb")
    (words,) = host.group.create(Resources(hugepage_limits=(HugepageLimit("3MB", 1),)))
    assert words == "hugepageLimits.3MB: the host has no huge pages of this size"


def test_what_depends_on_each_other_is_written_in_an_order_that_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from errno import EINVAL

    from runtime.cgroup import files
    from runtime.errors import KernelError

    host = Host(tmp_path, v1=("cpu",))
    host.write(
        "cpu",
        {
            "cpu.cfs_quota_us": "50000",
            "cpu.cfs_period_us": "100000",
            "cpu.cfs_burst_us": "50000",
            "cpu.shares": "1024",
        },
    )
    write = files.write

    def as_the_kernel(path: str, *values: str) -> None:
        quota = int(host.read("cpu/cpu.cfs_quota_us"))
        burst = int(host.read("cpu/cpu.cfs_burst_us"))
        if path.endswith("quota_us") and burst > int(values[0]):
            raise KernelError(EINVAL, "write", path)
        if path.endswith("burst_us") and int(values[0]) > quota:
            raise KernelError(EINVAL, "write", path)
        write(path, *values)

    monkeypatch.setattr(files, "write", as_the_kernel)
    host.group.update(Resources(cpu=Cpu(quota=20_000, burst=10_000)))
    assert host.read("cpu/cpu.cfs_burst_us") == "10000"
    host.group.update(Resources(cpu=Cpu(quota=90_000, burst=80_000)))
    assert host.read("cpu/cpu.cfs_burst_us") == "80000"
    with pytest.raises((ContainerError, StateError), match=r"cpu\.burst cannot be"):
        host.group.update(Resources(cpu=Cpu(quota=90_000, burst=95_000)))
