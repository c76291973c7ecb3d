"""Whether and when a container that has ended is started again. Pure.

A run of at least ten seconds makes the back-off and the count of retries start over.
"""

from runtime.record import dataclass
from runtime.supervisor.request import Restart

STABLE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a container ended, and what was before."""

    exit_code: int | None
    """None: unknown, and taken for a failure."""
    ran_for: float
    """Seconds."""
    attempts: int
    """As the last decision said; 0 at first."""
    stop_requested: bool = False
    unhealthy: bool = False
    """It was ended by us for being unhealthy: a failure, whatever its exit code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do now."""

    restart: bool
    delay: float = 0.0
    """Seconds to wait first."""
    attempts: int = 0
    """Quick ends in a row, this one included; to be handed in next time."""
    reason: str = ""
    """Why not, where somebody may wonder."""


def decide(policy: Restart, end: End) -> Decision:
    """Return what *policy* says to *end*."""
    attempts = 1 if end.ran_for >= STABLE_S else end.attempts + 1
    failed = end.exit_code != 0 or end.unhealthy
    if end.stop_requested or policy.policy == "no":
        return Decision(restart=False)
    if policy.policy == "on-failure":
        if not failed:
            return Decision(restart=False)
        if policy.max_retries is not None and attempts > policy.max_retries:
            reason = f"gave up after {policy.max_retries} retries"
            return Decision(restart=False, attempts=attempts, reason=reason)
    return Decision(restart=True, delay=backoff(policy, attempts), attempts=attempts)


def backoff(policy: Restart, attempts: int) -> float:
    """Return the seconds to wait before the start that follows that many quick ends."""
    # The exponent is bounded only to keep the float finite.
    return float(min(policy.max_backoff, policy.backoff * 2 ** min(attempts - 1, 60)))
