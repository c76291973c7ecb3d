"""What a row of probe results means. Pure."""

from dataclasses import replace

from runtime.record import dataclass
from runtime.supervisor.request import Health


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Health of one run of a container."""

    state: str = "starting"
    """``starting | healthy | unhealthy``"""
    failures: int = 0
    """In a row."""


def judge(verdict: Verdict, health: Health, *, passed: bool, age: float) -> Verdict:
    """Return the verdict after one more probe, of a container *age* seconds after its start.

    One success makes healthy. Failures before it was ever healthy do not count during the start
    period.
    """
    if passed:
        return Verdict(state="healthy")
    if verdict.state == "starting" and age < health.start_period:
        return verdict
    failures = verdict.failures + 1
    if failures >= health.retries:
        return Verdict(state="unhealthy", failures=failures)
    return replace(verdict, failures=failures)
