"""The v1 cpu and cpuacct controllers: shares, quota, time used.

Source: Documentation/scheduler/sched-bwc.rst, Documentation/admin-guide/cgroup-v1/cpuacct.rst.
"""

from runtime.cgroup.controller import Controller, number, table
from runtime.cgroup.limits import limit_or_none, shares_from_weight, weight_from_unified
from runtime.cgroup.setting import Setting
from runtime.spec import Cpu, Resources

DEFAULT_PERIOD_US = 100_000
DEFAULT_SHARES = 1024


def settings(resources: Resources) -> tuple[Setting, ...]:
    """Return period, quota and shares; a v2 ``cpu.weight`` is honoured by way of shares."""
    cpu = resources.cpu or Cpu()
    weight = weight_from_unified(resources, "cpu.weight")
    shares = limit_or_none(cpu.shares) or DEFAULT_SHARES
    if weight is not None:
        shares = shares_from_weight(weight)
    return (
        Setting(
            field="cpu.period",
            file="cpu.cfs_period_us",
            value=str(limit_or_none(cpu.period) or DEFAULT_PERIOD_US),
            default=str(DEFAULT_PERIOD_US),
            hint="1000 to 1000000 microseconds",
        ),
        Setting(
            field="cpu.quota",
            file="cpu.cfs_quota_us",
            value=str(limit_or_none(cpu.quota) or -1),
            default="-1",
            hint="at least 1000 microseconds",
        ),
        Setting(
            field="cpu.shares",
            file="cpu.shares",
            # The kernel clamps silently; so the comparison must know.
            value=str(min(max(shares, 2), 262144)),
            default=str(DEFAULT_SHARES),
        ),
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
    stats=stats,
)
CPUACCT = Controller(
    name="cpuacct",
    settings=lambda _: (),
    wanted=lambda _: False,
    stats=accounting,
)
