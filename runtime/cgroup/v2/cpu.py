"""The v2 cpu controller.

Source: Documentation/admin-guide/cgroup-v2.rst, CPU.
"""

from collections.abc import Iterator

from runtime.cgroup.controller import Controller, table, write_dependent
from runtime.cgroup.limits import limit_or_none, not_offered, weight_from_shares
from runtime.cgroup.setting import Absent, Setting, same_words
from runtime.spec import Cpu, Resources

DEFAULT_PERIOD_US = 100_000


def settings(resources: Resources) -> tuple[Setting, ...]:
    """Return quota with period, and weight.

    What no manifest asks for, and an idle group's weight, are listed only where they are given.
    """
    cpu = resources.cpu or Cpu()
    quota = limit_or_none(cpu.quota)
    period = limit_or_none(cpu.period) or DEFAULT_PERIOD_US
    shares = limit_or_none(cpu.shares)
    return (
        Setting(
            field="cpu.quota",
            file="cpu.max",
            value=f"{'max' if quota is None else quota} {period}",
            default=f"max {DEFAULT_PERIOD_US}",
            same=same_words,
            hint="quota at least 1000, period 1000 to 1000000 microseconds",
        ),
        *burst(cpu, "cpu.max.burst"),
        *_realtime(cpu),
        *idle(cpu),
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


def burst(cpu: Cpu, file: str) -> Iterator[Setting]:
    """Yield how much quota may be saved up, if that is given; both versions have it."""
    if cpu.burst is not None:
        yield Setting(
            field="cpu.burst",
            file=file,
            value=str(cpu.burst),
            default="0",
            absent=Absent.WARN,
            why_absent="the kernel has no burst, which came with Linux 5.14",
            hint="at most the quota",
        )


def idle(cpu: Cpu) -> Iterator[Setting]:
    """Yield whether the group is SCHED_IDLE, if that is given: such a group has no weight."""
    if cpu.idle is not None:
        yield Setting(
            field="cpu.idle",
            file="cpu.idle",
            value=str(cpu.idle),
            default="0",
            absent=Absent.WARN,
            why_absent="the kernel has no idle groups, which came with Linux 5.15",
            hint="0 or 1",
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
