"""The v1 cpu and cpuacct controllers: shares, quota, real time, time used.

Source: Documentation/scheduler/sched-bwc.rst, sched-rt-group.rst;
Documentation/admin-guide/cgroup-v1/cpuacct.rst.
"""

from collections.abc import Iterator

from runtime.cgroup.controller import Controller, number, table, write_dependent
from runtime.cgroup.limits import (
    DEFAULT_CPU_PERIOD_US,
    cpu_burst,
    cpu_idle,
    limit_or_none,
    shares_from_weight,
    weight_from_unified,
)
from runtime.cgroup.setting import Setting
from runtime.spec import Cpu, Resources

_DEFAULT_SHARES = 1024
_DEFAULT_REALTIME_PERIOD_US = 1_000_000


def settings(resources: Resources) -> tuple[Setting, ...]:
    """Return period, quota and shares; a v2 ``cpu.weight`` is honoured by way of shares.

    What no manifest asks for, and an idle group's shares, are listed only where they are given.
    """
    cpu = resources.cpu or Cpu()
    weight = weight_from_unified(resources, "cpu.weight")
    shares = limit_or_none(cpu.shares) or _DEFAULT_SHARES
    if weight is not None:
        shares = shares_from_weight(weight)
    return (
        Setting(
            field="cpu.period",
            file="cpu.cfs_period_us",
            value=str(limit_or_none(cpu.period) or DEFAULT_CPU_PERIOD_US),
            default=str(DEFAULT_CPU_PERIOD_US),
            hint="1000 to 1000000 microseconds",
        ),
        Setting(
            field="cpu.quota",
            file="cpu.cfs_quota_us",
            value=str(limit_or_none(cpu.quota) or -1),
            default="-1",
            hint="at least 1000 microseconds",
        ),
        *cpu_burst(cpu, "cpu.cfs_burst_us"),
        *_realtime(cpu),
        *cpu_idle(cpu),
        *(() if cpu.idle else (_shares(shares),)),
    )


def _shares(shares: int) -> Setting:
    # The kernel clamps silently; so the comparison must know.
    value = str(min(max(shares, 2), 262144))
    return Setting(field="cpu.shares", file="cpu.shares", value=value, default=str(_DEFAULT_SHARES))


def _realtime(cpu: Cpu) -> Iterator[Setting]:
    why_absent = "the kernel does not schedule real time by groups"
    if cpu.realtime_period is not None:
        yield Setting(
            field="cpu.realtimePeriod",
            file="cpu.rt_period_us",
            value=str(cpu.realtime_period),
            default=str(_DEFAULT_REALTIME_PERIOD_US),
            may_be_absent=True,
            why_absent=why_absent,
        )
    if cpu.realtime_runtime is not None:
        yield Setting(
            field="cpu.realtimeRuntime",
            file="cpu.rt_runtime_us",
            value=str(cpu.realtime_runtime),
            default="0",
            may_be_absent=True,
            why_absent=why_absent,
            hint="at most what the groups above have, within the period",
        )


def stats(folder: str) -> dict[str, int | None]:
    """Return how often and how long the quota held the group back."""
    counts = table(folder, "cpu.stat")
    return {
        "periods": counts.get("nr_periods"),
        "throttled_periods": counts.get("nr_throttled"),
        "throttled_ns": counts.get("throttled_time"),
    }


def accounting(folder: str) -> dict[str, int | None]:
    """Return the CPU time used."""
    return {
        "cpu_ns": number(folder, "cpuacct.usage"),
        "cpu_user_ns": number(folder, "cpuacct.usage_user"),
        "cpu_system_ns": number(folder, "cpuacct.usage_sys"),
    }


CPU = Controller(
    name="cpu",
    settings=settings,
    wanted=lambda resources: resources.cpu is not None or "cpu.weight" in resources.unified,
    apply=write_dependent,
    stats=stats,
)
CPUACCT = Controller(
    name="cpuacct",
    settings=lambda _: (),
    wanted=lambda _: False,
    stats=accounting,
)
