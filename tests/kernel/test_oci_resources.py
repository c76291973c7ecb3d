"""The rarer limits of a config.json, in the files of the real kernel."""

import json
import os

import pytest

from tests.support.bundle import ID, bundle_in
from tests.support.host import cannot

pytestmark = pytest.mark.kernel


@pytest.fixture
def bundle(world):
    with bundle_in(world) as made:
        yield made


def _controllers() -> dict[str, int]:
    """Return controller -> version on this host."""
    with open("/proc/self/cgroup") as file:
        lines = [line.split(":") for line in file.read().splitlines()]
    found = {name: 1 for _, names, _ in lines for name in names.split(",") if name}
    with open("/proc/self/mountinfo") as file:
        unified = [line.split()[4] for line in file if " - cgroup2 " in line]
    for mount in unified:
        with open(f"{mount}/cgroup.controllers") as file:
            found |= dict.fromkeys(file.read().split(), 2)
    return found


def _limit(bundle, *names: str) -> str:
    """Return what the first of these files that is there holds."""
    found = [f"{group}/{name}" for group in bundle.groups() for name in names]
    with open(next(path for path in found if os.path.exists(path))) as file:
        return file.read().strip()


def test_burst_and_idle_groups_from_create_to_update(bundle):
    bundle.config["linux"]["resources"] = {
        "cpu": {"quota": 50000, "burst": 20000, "idle": 1, "shares": 512}
    }
    bundle.start()
    burst = ("cpu.cfs_burst_us", "cpu.max.burst")
    assert (_limit(bundle, *burst), _limit(bundle, "cpu.idle")) == ("20000", "1")
    bundle.do("update", "--cpu-quota", "10000", "--cpu-burst", "5000", "--cpu-idle", "0", ID)
    assert (_limit(bundle, *burst), _limit(bundle, "cpu.idle")) == ("5000", "0")
    assert _limit(bundle, "cpu.shares", "cpu.weight") in ("512", "20")
    quota = ("cpu.cfs_quota_us", "cpu.max")
    before = _limit(bundle, *quota)
    change = json.dumps({"cpu": {"quota": 20000, "burst": 50000}, "pids": {"limit": 44}})
    assert "cpu.burst cannot be '50000'" in bundle.fails("update", "-r", "-", ID, input=change)
    assert (_limit(bundle, *burst), _limit(bundle, *quota)) == ("5000", before)
    assert _limit(bundle, "pids.max") == "max"


def test_what_only_one_version_has_is_set_or_named(bundle):
    memory, cpu = (_controllers().get(name) for name in ("memory", "cpu"))
    resources = {
        "memory.swappiness": {"memory": {"swappiness": 7}},
        "memory.disableOOMKiller": {"memory": {"limit": 64 << 20, "disableOOMKiller": True}},
        "cpu.realtimeRuntime": {"cpu": {"realtimeRuntime": 1000, "realtimePeriod": 500000}},
    }
    files = {
        "memory.swappiness": ("memory.swappiness", "7"),
        "memory.disableOOMKiller": ("memory.oom_control", "oom_kill_disable 1"),
        "cpu.realtimeRuntime": ("cpu.rt_runtime_us", "1000"),
    }
    bundle.sh("sleep 1000")
    for field, wanted in resources.items():
        bundle.config["linux"]["resources"] = wanted
        version = memory if field.startswith("memory") else cpu
        if version == 1:
            bundle.start()
            assert _limit(bundle, files[field][0]).split("\n")[0] == files[field][1]
            bundle.do("delete", "--force", ID)
        else:
            assert f"{field}: cgroup v2" in bundle.fails("create", ID)


def test_huge_pages_by_size(bundle):
    if "hugetlb" not in _controllers():
        cannot("limit huge pages: the kernel has no hugetlb controller")
    size = next(iter(sorted(os.listdir("/sys/kernel/mm/hugepages")))).removeprefix("hugepages-")
    kilobytes = int(size.removesuffix("kB"))
    name = f"{kilobytes >> 20}GB" if kilobytes >> 20 else f"{kilobytes >> 10}MB"
    limits = [{"pageSize": name, "limit": kilobytes << 11}]
    bundle.config["linux"]["resources"] = {"hugepageLimits": limits}
    bundle.start()
    for part in ("", ".rsvd"):
        found = _limit(bundle, f"hugetlb.{name}{part}.limit_in_bytes", f"hugetlb.{name}{part}.max")
        assert found == str(kilobytes << 11)
    change = {"hugepageLimits": [{"pageSize": name, "limit": kilobytes << 10}]}
    bundle.do("update", "-r", "-", ID, input=json.dumps(change))
    assert _limit(bundle, f"hugetlb.{name}.limit_in_bytes", f"hugetlb.{name}.max") == str(
        kilobytes << 10
    )
    change = {"hugepageLimits": [{"pageSize": "3MB", "limit": 1}]}
    words = bundle.fails("update", "-r", "-", ID, input=json.dumps(change))
    assert "hugepageLimits.3MB" in words


@pytest.mark.parametrize(
    ("member", "where", "controller"),
    [
        ({"network": {"classID": 5}}, "network.classID", "net_cls"),
        ({"network": {"priorities": [{"name": "lo", "priority": 5}]}}, "priorities", "net_prio"),
        ({"rdma": {"mlx5_1": {"hcaHandles": 3}}}, "rdma", ""),  # or no such device
        ({"blockIO": {"leafWeight": 100}}, "blockIO.leafWeight", ""),
        ({"memory": {"swap": 5}}, "memory.swap", ""),
    ],
    ids=["classID", "priorities", "rdma", "leafWeight", "swap"],
)
def test_what_the_host_lacks_is_an_error_by_name(bundle, member, where, controller):
    if controller in _controllers():
        cannot(f"lack {controller}: it has that controller")
    bundle.config["linux"]["resources"] = member
    assert where in bundle.fails("create", ID)
    assert "does not exist" in bundle.fails("state", ID)


def test_limits_of_kernel_memory_are_warned_about_as_by_runc(bundle):
    bundle.config["linux"]["resources"] = {"memory": {"kernel": 1 << 26, "kernelTCP": 1 << 26}}
    bundle.sh("echo ok")
    done = bundle.call("run", ID)
    assert done.stdout == "ok\n"
    assert "memory.kernelTCP is ignored" in done.stderr
