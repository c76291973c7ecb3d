"""An apply that is interrupted: what ends, what is skipped, and what signals say."""

import signal

import pytest

from provider.engine.apply import ApplyOptions, apply
from provider.engine.interrupt import Interrupt, on_signals
from provider.engine.observe import observe
from provider.engine.ports import CutShortError, UnsettledError
from provider.engine.revision import Revisions
from provider.planning.plan import make_plan
from tests.support import builders as b
from tests.support.memory import fates, todo


def test_an_interrupt_lets_running_steps_end_and_skips_the_rest(host):
    interrupt = Interrupt()
    host.workers = 1
    host.world.before_step = lambda step: (
        interrupt.request(signal.SIGINT) if step == "create Container/a" else None
    )
    wanted = b.desired(*b.GROUND, b.container("a"), b.container("b"))
    seen = observe(host.state, b.PROJECT, [host.driver], desired=wanted)
    report = apply(
        make_plan(wanted, seen),
        wanted,
        seen,
        [host.driver],
        host.state,
        options=ApplyOptions(who="me", workers=1),
        interrupt=interrupt,
    )
    assert report.interrupted
    assert fates(report)["Container/a"] == "ok"
    assert fates(report)["Container/b"] == "skipped"
    assert Revisions(host.state, b.PROJECT).last().result == "interrupted"
    assert not host.apply(wanted).failed
    assert host.plan(wanted).is_empty


def test_waits_end_early_when_interrupted(host):
    interrupt = Interrupt()

    def settle(action, context, deadline):
        interrupt.request(signal.SIGTERM)
        assert context.stopping.wait(10)
        raise CutShortError

    host.driver.settle = settle
    wanted = b.desired(*b.GROUND, b.container("a"))
    seen = observe(host.state, b.PROJECT, [host.driver], desired=wanted)
    report = apply(
        make_plan(wanted, seen),
        wanted,
        seen,
        [host.driver],
        host.state,
        options=ApplyOptions(who="me"),
        interrupt=interrupt,
    )
    assert fates(report)["Container/a"] == "skipped"
    assert report.interrupted
    assert report.changed
    assert todo(host.plan(wanted)) == {"Container/a": "update live"}
    del host.driver.settle
    assert not host.apply(wanted).failed
    assert host.plan(wanted).is_empty


def test_what_fails_while_an_interrupt_is_heard_has_failed(host):
    """One is still awaited, nobody knows how it is; the other has shown that it does not run."""
    interrupt = Interrupt()

    def settle(action, context, deadline):
        interrupt.request(signal.SIGTERM) if action.id.resource.name == "broken" else None
        assert context.stopping.wait(10)
        if action.id.resource.name == "broken":
            raise UnsettledError("Container/broken: it exited with 3", log_tail=("no such file",))
        raise CutShortError

    host.driver.settle = settle
    wanted = b.desired(*b.GROUND, b.container("broken"), b.container("slow"))
    seen = observe(host.state, b.PROJECT, [host.driver], desired=wanted)
    report = apply(
        make_plan(wanted, seen),
        wanted,
        seen,
        [host.driver],
        host.state,
        options=ApplyOptions(who="me"),
        interrupt=interrupt,
    )
    assert report.interrupted
    failures = {str(r.action.id): r.failure for r in report.results if r.failure}
    assert failures["Container/broken"].message == "Container/broken: it exited with 3"
    assert failures["Container/broken"].log_tail == ("no such file",)
    assert fates(report)["Container/broken"] == "failed"
    assert fates(report)["Container/slow"] == "skipped"
    reasons = {str(a.id): a.reason for a in host.plan(wanted).pending}
    assert reasons["Container/broken"] == "the last apply failed here: " + (
        "Container/broken: it exited with 3"
    )


def test_signals_ask_once_and_then_insist():
    with on_signals() as interrupt:
        signal.raise_signal(signal.SIGTERM)
        assert interrupt.signal is signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_lost_terminal_ends_it_in_order():
    """The shell hangs up, then the kernel does: that is not somebody who insists."""
    with on_signals() as interrupt:
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        assert interrupt.signal is signal.SIGHUP
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


def test_a_hangup_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with on_signals() as interrupt:
            signal.raise_signal(signal.SIGHUP)
            assert interrupt.signal is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
