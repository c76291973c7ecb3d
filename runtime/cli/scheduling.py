"""When a container's process runs, as its config.json asks.

Set from outside, by us who have the privileges it has given up by then, on a process that
forks no more before its exec: SCHED_DEADLINE forbids that.

Source: OCI runtime-spec config.md (scheduler, ioPriority, execCPUAffinity).
"""

import os

from runtime.cgroup.setting import parse_list
from runtime.errors import ContainerError, KernelError
from runtime.kernel.scheduling import FLAGS, IO_CLASSES, POLICIES, ioprio_set, sched_setattr
from runtime.spec import IoPriority, Process, Scheduler

_REALTIME = ("SCHED_FIFO", "SCHED_RR")


def schedule(pid: int, process: Process) -> None:
    """Give the process *pid* the scheduler and I/O priority that *process* asks for.

    Raises:
        ContainerError: that contradicts itself, or the kernel refuses it.
    """
    if process.scheduler is not None:
        _set_scheduler(pid, process.scheduler)
    if process.io_priority is not None:
        _set_io_priority(pid, process.io_priority)


def set_affinity(pid: int, cpus: str, what: str) -> None:
    """Have *pid*, 0 being ourselves, run on *cpus* only, a list like ``0-2,7``.

    Raises:
        ContainerError: that is no such list, or of none of its cgroup's; says *what*.
    """
    try:
        os.sched_setaffinity(pid, parse_list(cpus))
    except (ValueError, OverflowError, OSError) as error:
        raise ContainerError(
            f"process.execCPUAffinity.{what} cannot be {cpus!r}: {error}"
        ) from error


def _set_scheduler(pid: int, wanted: Scheduler) -> None:
    if wanted.policy not in POLICIES:
        raise ContainerError(f"process.scheduler.policy: there is no {wanted.policy}")
    if unknown := [flag for flag in wanted.flags if flag not in FLAGS]:
        raise ContainerError(f"process.scheduler.flags: there is no {unknown[0]}")
    if not -20 <= wanted.nice <= 19:
        raise ContainerError(f"process.scheduler.nice is -20 to 19, not {wanted.nice}")
    if wanted.priority and wanted.policy not in _REALTIME:
        raise ContainerError(f"process.scheduler.priority is for {' and '.join(_REALTIME)}")
    times = (wanted.runtime, wanted.deadline, wanted.period)
    if any(times) and wanted.policy != "SCHED_DEADLINE":
        raise ContainerError("process.scheduler: runtime, deadline and period are SCHED_DEADLINE's")
    try:
        sched_setattr(
            pid,
            POLICIES[wanted.policy],
            flags=sum(FLAGS[flag] for flag in set(wanted.flags)),
            nice=wanted.nice,
            priority=wanted.priority,
            runtime_ns=wanted.runtime,
            deadline_ns=wanted.deadline,
            period_ns=wanted.period,
        )
    except KernelError as error:
        raise ContainerError(f"process.scheduler cannot be {wanted.policy}: {error}") from error


def _set_io_priority(pid: int, wanted: IoPriority) -> None:
    if wanted.cls not in IO_CLASSES:
        raise ContainerError(f"process.ioPriority.class: there is no {wanted.cls}")
    if not 0 <= wanted.priority <= 7:
        raise ContainerError(f"process.ioPriority.priority is 0 to 7, not {wanted.priority}")
    try:
        ioprio_set(pid, IO_CLASSES[wanted.cls], wanted.priority)
    except KernelError as error:
        raise ContainerError(f"process.ioPriority cannot be {wanted.cls}: {error}") from error
