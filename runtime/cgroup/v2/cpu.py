"""The v2 cpu controller.

Source: Documentation/admin-guide/cgroup-v2.rst, CPU.
"""

from collections.abc import Iterator

from runtime.cgroup.controller import Controller, table, write_dependent
from runtime.cgroup.limits import (
    DEFAULT_CPU_PERIOD_US,
    cpu_burst,
    cpu_idle,
    limit_or_none,
    not_offered,
    weight_from_shares,
)
from runtime.cgroup.setting import Setting, same_words
from runtime.spec import Cpu, Resources


def settings(resources: Resources) -> tuple[Setting, ...]:
    """Return quota with period, and weight.

    What no manifest asks for, and an idle group's weight, are listed only where they are given.
    """
    cpu = resources.cpu or Cpu()
    quota = limit_or_none(cpu.quota)
    period = limit_or_none(cpu.period) or DEFAULT_CPU_PERIOD_US
    shares = limit_or_none(cpu.shares)
    return (
        Setting(
            field="cpu.quota",
            file="cpu.max",
            value=f"{'max' if quota is None else quota} {period}",
            default=f"max {DEFAULT_CPU_PERIOD_US}",
            same=same_words,
            hint="quota at least 1000, period 1000 to 1000000 microseconds",
        ),
        *cpu_burst(cpu, "cpu.max.burst"),
        *_realtime(cpu),
        *cpu_idle(cpu),
        *(() if cpu.idle else (_weight(shares),)),
    )


def _weight(shares: int | None) -> Setting:
    return Setting(
        field="cpu.shares",
        file="cpu.weight",
        value=str(100 if shares is None else weight_from_shares(shares)),
        default="100",
        hint="1 to 10000",
    )


def _realtime(cpu: Cpu) -> Iterator[Setting]:
    why = "cgroup v2 does not schedule real time by groups"
    if cpu.realtime_period is not None:
        yield not_offered("cpu.realtimePeriod", "cpu.rt_period_us", cpu.realtime_period, why)
    if cpu.realtime_runtime is not None:
        yield not_offered("cpu.realtimeRuntime", "cpu.rt_runtime_us", cpu.realtime_runtime, why)


def stats(folder: str) -> dict[str, int | None]:
    """Return time used, which v2 counts without any controller, and what the quota held back."""
    counts = table(folder, "cpu.stat")
    return {
        "cpu_ns": _ns(counts.get("usage_usec")),
        "cpu_user_ns": _ns(counts.get("user_usec")),
        "cpu_system_ns": _ns(counts.get("system_usec")),
        "periods": counts.get("nr_periods"),
        "throttled_periods": counts.get("nr_throttled"),
        "throttled_ns": _ns(counts.get("throttled_usec")),
    }


def _ns(microseconds: int | None) -> int | None:
    return None if microseconds is None else microseconds * 1000


CPU = Controller(
    name="cpu",
    settings=settings,
    wanted=lambda resources: resources.cpu is not None,
    apply=write_dependent,
    stats=stats,
)
