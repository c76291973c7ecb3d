"""How a plan is carried out: order, parallelism, failure, waiting, interruption, what is told."""

import signal
import threading
import time

import pytest

from provider.engine.apply import ApplyOptions, apply
from provider.engine.interrupt import Interrupt, on_signals
from provider.engine.ledger import Ledger
from provider.engine.observe import observe
from provider.engine.ports import CutShortError, UnsettledError
from provider.engine.revision import Revisions
from provider.errors import ApplyError
from provider.model import specs
from provider.model.events import Phase
from provider.model.ids import Kind
from provider.model.resource import Condition
from provider.planning.plan import make_plan
from tests.support import builders as b
from tests.support.memory import todo

GROUND = (b.image(), b.network())


def fates(report):
    return {str(r.action.id): str(r.fate) for r in report.results}


def failing(host, *steps):
    def fail(step):
        if step in steps:
            raise ApplyError(f"{step}: no luck")

    host.world.before_step = fail


def test_a_failure_stops_only_what_depends_on_it(host):
    failing(host, "create Container/db")
    wanted = b.desired(
        *GROUND,
        b.container("db"),
        b.container("app", dependencies=(b.wait_for(Kind.CONTAINER, "db"),)),
        b.container("front", dependencies=(b.wait_for(Kind.CONTAINER, "app"),)),
        b.container("other"),
    )
    report = host.apply(wanted)
    assert fates(report) == {
        "Image/base": "ok",
        "Network/front": "ok",
        "Container/db": "failed",
        "Container/app": "skipped",
        "Container/front": "skipped",
        "Container/other": "ok",
    }
    causes = {str(r.action.id): r.failure.message for r in report.results if r.failure}
    assert causes == {
        "Container/db": "create Container/db: no luck",
        "Container/app": "Container/db failed",
        "Container/front": "Container/db failed",
    }
    assert report.failed
    assert report.changed
    host.world.before_step = lambda step: None
    assert host.plan(wanted).pending[0].reason == (
        "the last apply failed here: create Container/db: no luck"
    )
    assert not host.apply(wanted).failed
    assert host.plan(wanted).is_empty


def test_on_failure_stop_begins_nothing_new(host):
    host.workers = 1
    failing(host, "create Container/a")
    wanted = b.desired(*GROUND, b.container("a"), b.container("b"), b.container("c"))
    report = host.apply(wanted, on_failure="stop")
    assert list(fates(report).values()) == ["ok", "ok", "failed", "skipped", "skipped"]


def test_a_failed_update_keeps_what_was_and_is_tried_again(host):
    host.apply(b.desired(*GROUND, b.container()))
    wanted = b.desired(*GROUND, b.container(spec=b.container_spec(user="me")))
    failing(host, "create Container/app")
    host.apply(wanted)
    entry = Ledger(host.state, b.PROJECT).read()[b.iid(Kind.CONTAINER, "app")]
    assert entry.effective["container"]["user"] == "0"
    assert entry.attempt.error == "create Container/app: no luck"
    assert len(entry.leftovers) == 1
    host.world.before_step = lambda step: None
    assert todo(host.plan(wanted)) == {"Container/app": "update replace"}
    host.apply(wanted)
    entry = Ledger(host.state, b.PROJECT).read()[b.iid(Kind.CONTAINER, "app")]
    assert (entry.attempt, entry.leftovers) == (None, ())


def test_a_failed_delete_is_tried_again(host):
    host.apply(b.desired(*GROUND, b.container()))
    failing(host, "delete Container/app")
    report = host.delete()
    assert fates(report)["Container/app"] == "failed"
    assert fates(report)["Network/front"] == "skipped"
    host.world.before_step = lambda step: None
    assert not host.delete().failed
    assert host.marks() == []


def test_independent_branches_run_side_by_side(host):
    together = threading.Barrier(3, timeout=10)

    def meet(step):
        if step.startswith("create Container"):
            together.wait()

    host.world.before_step = meet
    wanted = b.desired(*GROUND, *(b.container(n) for n in "abc"))
    assert not host.apply(wanted).failed


def test_waiting_for_health_holds_up_nobody_else(host):
    """One worker: the wait of one dependent must not take the place of the others' work."""
    host.workers = 1
    others_done = threading.Event()
    patient = host.driver.settle

    def wait(action, context, deadline):
        assert action.id.resource.name == "last" or others_done.wait(10)
        return patient(action, context, deadline)

    host.driver.settle = wait
    host.world.before_step = lambda step: (
        others_done.set() if step == "start Container/last" else None
    )
    healthy = (b.wait_for(Kind.CONTAINER, "db", Condition.HEALTHY),)
    wanted = b.desired(
        *GROUND,
        b.container("db"),
        b.container("app", dependencies=healthy),
        b.container("last"),
    )
    assert not host.apply(wanted).failed


def test_one_wait_serves_all_who_wait_for_the_same(host):
    asked = []
    patient = host.driver.await_condition

    def wait(instance, *rest):
        asked.append(instance)
        patient(instance, *rest)

    host.driver.await_condition = wait
    host.apply(b.desired(*GROUND, b.container("db")))
    healthy = (b.wait_for(Kind.CONTAINER, "db", Condition.HEALTHY),)
    wanted = b.desired(
        *GROUND, b.container("db"), *(b.container(n, dependencies=healthy) for n in "abc")
    )
    host.apply(wanted)
    assert asked == [b.iid(Kind.CONTAINER, "db")]


@pytest.mark.parametrize("before", [None, "me"], ids=["made", "replaced"])
def test_who_waits_for_what_is_started_now_waits_until_that_has_taken_over(host, before):
    """It may be healthy for a while before traffic has moved and what it replaces is gone."""
    host.driver.await_condition = None  # nobody else looks; would raise
    settle = host.driver.settle

    def slow(action, context, deadline):
        assert deadline - time.monotonic() > 180 + 5
        time.sleep(0.02)
        host.world.step(f"settled {action.id}")
        return settle(action, context, deadline)

    def project(user):
        spec = b.container_spec(
            user=user, health=specs.Health(tcp=specs.TcpProbe(port=80), start_period=180)
        )
        healthy = (b.wait_for(Kind.SERVICE, "web", Condition.HEALTHY),)
        return b.desired(
            *GROUND, b.service(spec=spec), b.container("front", spec, dependencies=healthy)
        )

    if before:
        host.driver.settle = lambda *_: None
        host.apply(project(before))
        host.world.log.clear()
    host.driver.settle = slow
    assert not host.apply(project("you")).failed
    log = [step for step in host.world.log if step.startswith(("create", "settled"))]
    assert log.index("settled Service/web[0]") < log.index("create Container/front")
    assert log.index("settled Service/web[1]") < log.index("create Container/front")
    if before:
        assert log.index("settled Service/web[0]") < log.index("create Service/web[1]")


def test_who_gives_up_waiting_is_told_of_the_last_probe(host):
    release = threading.Event()
    settle = host.driver.settle

    def slow(action, context, deadline):
        assert action.id.resource.name != "db" or release.wait(10)
        host.world.unhealthy.clear()
        return settle(action, context, deadline)

    host.driver.settle = slow
    host.world.unhealthy.add(b.iid(Kind.CONTAINER, "db"))
    host.emit = lambda event: release.set() if event.phase is Phase.SKIPPED else None
    healthy = (b.wait_for(Kind.CONTAINER, "db", Condition.HEALTHY, timeout_s=0.05),)
    wanted = b.desired(*GROUND, b.container("db"), b.container("app", dependencies=healthy))
    report = host.apply(wanted)
    assert fates(report)["Container/db"] == "ok"
    (skipped,) = (r for r in report.results if r.fate == "skipped")
    assert skipped.failure.message == (
        "Container/db: it was not healthy: last probe: connection refused"
    )


def test_an_unhealthy_dependency_is_named_with_its_last_probe(host):
    host.world.unhealthy.add(b.iid(Kind.CONTAINER, "db"))
    healthy = (b.wait_for(Kind.CONTAINER, "db", Condition.HEALTHY),)
    wanted = b.desired(*GROUND, b.container("db"), b.container("app", dependencies=healthy))
    report = host.apply(wanted)
    assert fates(report)["Container/db"] == "failed"
    assert fates(report)["Container/app"] == "skipped"
    (db,) = (r for r in report.results if str(r.action.id) == "Container/db")
    assert db.failure.message == "Container/db was not healthy: last probe: connection refused"
    assert db.failure.log_tail == ("starting", "out of luck")
    again = host.plan(wanted)
    assert todo(again)["Container/db"] == "update restart"
    host.world.unhealthy.clear()
    # It is well now, but nobody has let traffic go to it, nor what it replaced.
    assert todo(host.plan(wanted)) == {"Container/db": "update live", "Container/app": "create"}
    host.apply(wanted)
    assert todo(host.plan(wanted)) == {}


def test_a_recorded_dependency_is_asked_too(host):
    wanted = b.desired(*GROUND, b.container("db"))
    host.apply(wanted)
    host.world.unhealthy.add(b.iid(Kind.CONTAINER, "db"))
    healthy = (b.wait_for(Kind.CONTAINER, "db", Condition.HEALTHY),)
    report = host.apply(
        b.desired(*GROUND, b.container("db"), b.container("app", dependencies=healthy))
    )
    assert fates(report)["Container/db"] == "ok"
    assert fates(report)["Container/app"] == "skipped"


def test_a_job_that_takes_too_long_fails_who_waits(host):
    release = threading.Event()
    settle = host.driver.settle

    def slow(action, context, deadline):
        if action.id.resource.kind is Kind.JOB:
            assert release.wait(10)
        return settle(action, context, deadline)

    host.driver.settle = slow
    waits = (b.wait_for(Kind.JOB, "seed", Condition.COMPLETED, timeout_s=0.05),)
    wanted = b.desired(*GROUND, b.job(), b.container(dependencies=waits))

    def on_event(event):
        host.events.append(event)
        if event.phase is Phase.SKIPPED:
            release.set()

    seen = observe(host.state, b.PROJECT, [host.driver], desired=wanted)
    report = apply(
        make_plan(wanted, seen),
        wanted,
        seen,
        [host.driver],
        host.state,
        options=ApplyOptions(who="me"),
        emit=on_event,
    )
    assert fates(report) == {
        "Image/base": "ok",
        "Network/front": "ok",
        "Job/seed": "ok",
        "Container/app": "skipped",
    }
    (skipped,) = (r for r in report.results if r.fate == "skipped")
    assert skipped.failure.message == "Job/seed has not completed within 50ms"


def test_a_stopped_container_is_made_and_not_waited_for(host):
    host.driver.settle = None  # would raise
    assert not host.apply(b.desired(*GROUND, b.container(state="stopped"))).failed


def test_events_tell_the_story(host):
    host.workers = 1
    perform = host.driver.perform

    def talkative(action, context):
        context.progress("half way")
        return perform(action, context)

    host.driver.perform = talkative
    wanted = b.desired(*GROUND, b.container())
    host.apply(wanted)
    story = [(e.phase, e.message) for e in host.events if str(e.id) == "Container/app"]
    assert story == [
        (Phase.STARTED, "not there yet"),
        (Phase.PROGRESS, "half way"),
        (Phase.WAITING, "until it is healthy"),
        (Phase.OK, ""),
    ]
    host.events.clear()
    host.apply(wanted)
    assert host.events == []


def test_a_no_op_writes_nothing(host):
    wanted = b.desired(*GROUND, b.container())
    host.apply(wanted)

    def files():
        return {p: p.stat().st_mtime_ns for p in host.state.rglob("*") if p.name != "lock"}

    before = files()
    report = host.apply(wanted)
    assert (report.changed, report.revision, files()) == (False, 1, before)


def test_revisions_tell_who_did_what(host):
    host.apply(b.desired(*GROUND))
    failing(host, "create Container/app")
    report = host.apply(b.desired(*GROUND, b.container()))
    history = Revisions(host.state, b.PROJECT)
    assert [(r.number, r.result, r.who) for r in history.list()] == [
        (1, "ok", "root@test"),
        (2, "failed", "root@test"),
    ]
    assert report.revision == 2
    assert history.last().summary["failed"] == 1
    assert history.last().sources == ("shop.yaml",)


def test_an_interrupt_lets_running_steps_end_and_skips_the_rest(host):
    interrupt = Interrupt()
    host.workers = 1
    host.world.before_step = lambda step: (
        interrupt.request(signal.SIGINT) if step == "create Container/a" else None
    )
    wanted = b.desired(*GROUND, b.container("a"), b.container("b"))
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
    wanted = b.desired(*GROUND, b.container("a"))
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
    wanted = b.desired(*GROUND, b.container("broken"), b.container("slow"))
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


def test_a_bug_in_a_driver_is_not_swallowed_and_can_be_mended(host):
    def bug(step):
        if step == "start Container/a":
            raise ZeroDivisionError("oops")

    host.world.before_step = bug
    wanted = b.desired(*GROUND, b.container("a"), b.container("b"))
    with pytest.raises(ZeroDivisionError):
        host.apply(wanted)
    host.world.before_step = lambda step: None
    plan = host.plan(wanted)
    assert plan.pending[0].leftovers
    assert not host.apply(wanted).failed
    assert host.plan(wanted).is_empty


def test_work_put_off_to_the_end_can_still_fail(host):
    host.driver.postponed = {b.iid(Kind.SERVICE, "web"): ApplyError("nft said no")}
    wanted = b.desired(*GROUND, b.service())
    report = host.apply(wanted)
    assert fates(report)["Service/web"] == "failed"
    host.driver.postponed = {}
    assert todo(host.plan(wanted)) == {"Service/web": "update live"}


def test_nothing_secret_reaches_the_disk(host):
    canary = "hunter2-canary"
    spec = b.container_spec(
        env={"P": specs.EnvVar(secret="db", key="p")}, secrets=(specs.FileMount("db", "/db"),)
    )
    secret = b.secret(values={"p": canary})
    wanted = b.desired(*GROUND, secret, b.container(spec=spec), secrets={"db": {"p": canary}})
    texts = []
    host.workers = 1  # so that no file is half-way while it is read
    host.world.before_step = lambda step: texts.extend(
        p.read_text() for p in host.state.rglob("*") if p.is_file()
    )
    report = host.apply(wanted)
    assert not report.failed
    texts += [repr(report), repr(host.plan(wanted)), repr(host.events)]
    assert texts
    assert not [text for text in texts if canary in text]
