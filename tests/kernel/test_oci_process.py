"""When a container's process runs, and as what: scheduler, priorities, personality, labels."""

import json
import os
import subprocess

import pytest

from runtime.kernel import lsm
from tests.support.bundle import ID, bundle_in
from tests.support.host import cannot

pytestmark = pytest.mark.kernel


@pytest.fixture
def bundle(world):
    with bundle_in(world) as made:
        yield made


def _policy(pid: int) -> str:
    done = subprocess.run(["chrt", "-p", str(pid)], capture_output=True, text=True, check=True)
    return done.stdout.split("\n")[0].rpartition(" ")[2]


@pytest.mark.parametrize(
    ("scheduler", "nice", "userns"),
    [
        ({"policy": "SCHED_BATCH", "nice": -7}, -7, True),
        ({"policy": "SCHED_OTHER", "nice": 5, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}, 5, False),
    ],
    ids=["userns", "reset on fork"],
)
def test_the_scheduler_of_process_and_exec(bundle, scheduler, nice, userns):
    if userns:
        bundle.with_user_namespace()
    bundle.config["process"]["scheduler"] = scheduler
    bundle.start("exec sleep 1000")
    pid = bundle.state()["pid"]
    assert _policy(pid).partition("|")[0] == scheduler["policy"]
    assert os.getpriority(os.PRIO_PROCESS, pid) == nice
    out = bundle.do("exec", ID, "cat", "/proc/self/stat").split()
    assert int(out[18]) == nice


def test_a_deadline_scheduler_is_for_who_forks_no_more(bundle):
    times = {"runtime": 1_000_000, "deadline": 10_000_000, "period": 10_000_000}
    bundle.config["process"]["scheduler"] = {"policy": "SCHED_DEADLINE", **times}
    bundle.start("exec sleep 1000")
    assert _policy(bundle.state()["pid"]) == "SCHED_DEADLINE"


def test_priority_for_block_devices(bundle):
    bundle.config["process"]["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 6}
    bundle.start()
    pid = str(bundle.state()["pid"])
    done = subprocess.run(["ionice", "-p", pid], capture_output=True, text=True, check=True)
    assert done.stdout == "best-effort: prio 6\n"


def test_the_personality_is_that_of_exec_too(bundle):
    bundle.config["linux"]["personality"] = {"domain": "LINUX32"}
    bundle.start()
    with open(f"/proc/{bundle.state()['pid']}/personality") as file:
        assert file.read() == "00000008\n"
    assert bundle.do("exec", ID, "cat", "/proc/self/personality") == "00000008\n"


def test_where_an_exec_runs(bundle):
    cpus = sorted(os.sched_getaffinity(0))
    bundle.start()
    process = {
        **bundle.config["process"],
        "args": ["grep", "Cpus_allowed_list", "/proc/self/status"],
        "execCPUAffinity": {"initial": str(cpus[0]), "final": str(cpus[-1])},
    }
    (bundle.path / "process.json").write_text(json.dumps(process))
    out = bundle.do("exec", "--process", "process.json", ID)
    assert out.split() == ["Cpus_allowed_list:", str(cpus[-1])]


def test_what_the_kernel_refuses_leaves_nothing(bundle):
    bundle.config["process"]["scheduler"] = {"policy": "SCHED_FIFO", "priority": 100}
    bundle.sh("true")
    words = bundle.fails("create", ID, stdin=subprocess.DEVNULL)
    assert "process.scheduler cannot be SCHED_FIFO" in words
    assert "does not exist" in bundle.fails("state", ID)


@pytest.mark.parametrize(
    ("section", "member", "name"),
    [
        ("process", {"apparmorProfile": "no-such-profile"}, "AppArmor"),
        ("process", {"selinuxLabel": "system_u:system_r:no_t:s0"}, "SELinux"),
        ("linux", {"mountLabel": "system_u:object_r:no_t:s0"}, "SELinux"),
    ],
    ids=["apparmorProfile", "selinuxLabel", "mountLabel"],
)
def test_labels_where_the_host_knows_no_such(bundle, section, member, name):
    bundle.config[section] |= member
    assert name in bundle.fails("create", ID)
    assert "does not exist" in bundle.fails("state", ID)


def test_a_profile_of_apparmor_holds(bundle):
    if not lsm.is_enabled(lsm.APPARMOR):
        cannot("confine with AppArmor: the kernel lacks it")
    bundle.config["process"]["apparmorProfile"] = "unconfined"
    assert bundle.run("cat /proc/self/attr/current") == "unconfined\n"
