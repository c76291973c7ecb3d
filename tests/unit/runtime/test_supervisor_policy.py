"""Restart decisions and health verdicts, without a clock."""

import pytest

from runtime.supervisor.health import Verdict, judge
from runtime.supervisor.request import Health, Restart
from runtime.supervisor.restart import STABLE_S, End, backoff, decide


def end(exit_code=1, *, ran_for=0.0, attempts=0, **changes):
    return End(exit_code=exit_code, ran_for=ran_for, attempts=attempts, **changes)


@pytest.mark.parametrize(
    ("policy", "ended", "restarts"),
    [
        ("no", end(0), False),
        ("no", end(1), False),
        ("no", end(1, unhealthy=True), False),
        ("on-failure", end(0), False),
        ("on-failure", end(1), True),
        ("on-failure", end(None), True),
        ("on-failure", end(0, unhealthy=True), True),
        ("always", end(0), True),
        ("always", end(1), True),
        ("unless-stopped", end(0), True),
        ("always", end(0, stop_requested=True), False),
        ("unless-stopped", end(1, stop_requested=True), False),
        ("on-failure", end(1, stop_requested=True), False),
    ],
)
def test_who_is_started_again(policy, ended, restarts):
    assert decide(Restart(policy=policy), ended).restart is restarts


def test_waits_double_up_to_the_longest_and_start_over_after_a_stable_run():
    policy = Restart(policy="always", backoff=0.5, max_backoff=3.0)
    attempts, waits = 0, []
    for _ in range(5):
        decision = decide(policy, end(attempts=attempts))
        attempts = decision.attempts
        waits.append(decision.delay)
    assert waits == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert decide(policy, end(attempts=attempts, ran_for=STABLE_S)).delay == 0.5
    assert backoff(policy, 10_000) == 3.0


def test_retries_are_counted_in_a_row():
    policy = Restart(policy="on-failure", max_retries=2)
    assert decide(policy, end(attempts=1)).restart
    given_up = decide(policy, end(attempts=2))
    assert not given_up.restart
    assert given_up.reason == "gave up after 2 retries"
    assert decide(policy, end(attempts=2, ran_for=STABLE_S)).restart
    assert not decide(Restart(policy="on-failure", max_retries=0), end()).restart


def judged(results, *, age=0.0, **health):
    verdict = Verdict()
    for passed in results:
        verdict = judge(verdict, Health(kind="tcp", **health), passed=passed, age=age)
    return verdict.state


@pytest.mark.parametrize(
    ("results", "state"),
    [
        ("", "starting"),
        ("+", "healthy"),
        ("--", "starting"),
        ("---", "unhealthy"),
        ("--+--", "healthy"),
        ("+---", "unhealthy"),
        ("---+", "healthy"),
    ],
)
def test_three_failures_in_a_row_are_unhealthy_and_one_success_is_healthy(results, state):
    assert judged([result == "+" for result in results], retries=3) == state


def test_the_start_period_forgives_failures_until_the_first_success():
    assert judged([False] * 5, retries=2, start_period=10, age=9) == "starting"
    assert judged([False] * 2, retries=2, start_period=10, age=10) == "unhealthy"
    assert judged([True, False, False], retries=2, start_period=10, age=1) == "unhealthy"
