"""What a scheduler or a priority cannot be; what it can is the kernel's to say."""

import pytest

from runtime.cli.scheduling import schedule, set_affinity
from runtime.errors import ContainerError
from runtime.spec import IoPriority, Process, Scheduler


@pytest.mark.parametrize(
    ("scheduler", "where"),
    [
        (Scheduler("SCHED_NONE"), "scheduler.policy: there is no SCHED_NONE"),
        (Scheduler("SCHED_FIFO", priority=1, flags=("X",)), "scheduler.flags: there is no X"),
        (Scheduler("SCHED_OTHER", nice=20), "scheduler.nice"),
        (Scheduler("SCHED_BATCH", runtime=5), "SCHED_DEADLINE's"),
        (Scheduler("SCHED_OTHER", priority=5), "priority is for SCHED_FIFO and SCHED_RR"),
    ],
    ids=lambda value: value.policy if isinstance(value, Scheduler) else "",
)
def test_schedulers_that_cannot_be_meant(scheduler, where):
    with pytest.raises(ContainerError, match=where):
        schedule(0, Process(("true",), scheduler=scheduler))


@pytest.mark.parametrize(
    ("priority", "where"),
    [
        (IoPriority("IOPRIO_CLASS_X"), "ioPriority.class"),
        (IoPriority("IOPRIO_CLASS_BE", 8), "ioPriority.priority is 0 to 7"),
    ],
    ids=["class", "priority"],
)
def test_priorities_that_cannot_be_meant(priority, where):
    with pytest.raises(ContainerError, match=where):
        schedule(0, Process(("true",), io_priority=priority))


@pytest.mark.parametrize("cpus", ["x", "3-", "999999", "-1", "99999999999999"])
def test_lists_of_cpus_that_are_none(cpus):
    with pytest.raises(ContainerError, match=r"execCPUAffinity\.final"):
        set_affinity(0, cpus, "final")
