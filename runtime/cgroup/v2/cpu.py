"""The v2 cpu controller.

Source: Documentation/admin-guide/cgroup-v2.rst, CPU.
"""

from runtime.cgroup.controller import Controller, table
from runtime.cgroup.limits import limit_or_none, weight_from_shares
from runtime.cgroup.setting import Setting, same_words
from runtime.spec import Cpu, Resources

DEFAULT_PERIOD_US = 100_000


def settings(resources: Resources) -> tuple[Setting, ...]:
    """Return quota with period, and weight."""
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
        Setting(
            field="cpu.shares",
            file="cpu.weight",
            value=str(100 if shares is None else weight_from_shares(shares)),
            default="100",
            hint="1 to 10000",
        ),
    )


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
    stats=stats,
)
