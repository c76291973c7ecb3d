"""What CI runs in the machine: pure v2 with systemd, a few kernel tests, a reboot, two losses."""

from __future__ import annotations

import pytest

from tests.vm.losses import Stage
from tests.vm.machine import Machine

pytestmark = [pytest.mark.machine, pytest.mark.timeout(1800)]

# One of each subject that differs between the versions of cgroups.
KERNEL_TESTS = (
    *(
        f"tests/kernel/test_cgroup_live{name}"
        for name in (
            *(".py::test_limits_reach_the_kernel_and_are_no_deviation", ".py::TestV2"),
            "_members.py::test_kill_wins_against_a_fork_bomb",
            "_members.py::test_freeze_stops_and_thaw_goes_on",
            "_members.py::test_oom_kill_is_counted",
        )
    ),
    "tests/kernel/test_cgroup_device_program.py::test_a_change_is_one_step_and_is_seen",
)

MOUNTINFO = "/proc/1/mountinfo"
# About half of the points each passes (`Stage.passes`).
CREATE_HALF, UPDATE_HALF = 260, 240


def test_it_is_pure_v2_with_systemd_as_first_process(machine: Machine) -> None:
    assert machine.run(["cat", "/proc/1/comm"]).out == "systemd\n"
    types = [line.split(" - ")[1].split()[0] for line in machine.read(MOUNTINFO).splitlines()]
    assert types.count("cgroup2") == 1
    assert "cgroup" not in types
    controllers = machine.read("/sys/fs/cgroup/cgroup.controllers").split()
    assert {"cpu", "cpuset", "hugetlb", "io", "memory", "misc", "pids", "rdma"} <= {*controllers}
    machine.run(["systemctl", "is-system-running", "--wait"])


def test_kernel_tests_pass(machine: Machine) -> None:
    machine.pytest(*KERNEL_TESTS)


def test_after_a_reboot_apply_brings_everything_back(machine: Machine) -> None:
    stage = Stage(machine)
    stage.mend("alpha", doctored=False)
    machine.reboot()
    stage.mend("alpha", doctored=False, kept=True)


def test_power_lost_in_an_update_and_in_a_first_apply(machine: Machine) -> None:
    stage = Stage(machine)
    stage.mend("alpha", doctored=False)  # as the test before leaves it, which may not have run
    assert stage.lose_power("beta", UPDATE_HALF)
    stage.mend("beta", kept=True)
    stage.check_gone()
    assert stage.lose_power("alpha", CREATE_HALF)
    stage.mend("alpha", doctored=False)
