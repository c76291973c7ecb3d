"""Waiting for what others need, while a plan is carried out."""

import threading
import time

import pytest

from provider.engine.apply import ApplyOptions, apply
from provider.engine.observe import observe
from provider.model import specs
from provider.model.events import Phase
from provider.model.ids import Kind
from provider.model.resource import Condition
from provider.planning.plan import make_plan
from tests.support import builders as b
from tests.support.memory import fates, todo


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
        *b.GROUND,
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
    host.apply(b.desired(*b.GROUND, b.container("db")))
    healthy = (b.wait_for(Kind.CONTAINER, "db", Condition.HEALTHY),)
    wanted = b.desired(
        *b.GROUND, b.container("db"), *(b.container(n, dependencies=healthy) for n in "abc")
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
            *b.GROUND, b.service(spec=spec), b.container("front", spec, dependencies=healthy)
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
    wanted = b.desired(*b.GROUND, b.container("db"), b.container("app", dependencies=healthy))
    report = host.apply(wanted)
    assert fates(report)["Container/db"] == "ok"
    (skipped,) = (r for r in report.results if r.fate == "skipped")
    assert skipped.failure.message == (
        "Container/db: it was not healthy: last probe: connection refused"
    )


def test_an_unhealthy_dependency_is_named_with_its_last_probe(host):
    host.world.unhealthy.add(b.iid(Kind.CONTAINER, "db"))
    healthy = (b.wait_for(Kind.CONTAINER, "db", Condition.HEALTHY),)
    wanted = b.desired(*b.GROUND, b.container("db"), b.container("app", dependencies=healthy))
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
    wanted = b.desired(*b.GROUND, b.container("db"))
    host.apply(wanted)
    host.world.unhealthy.add(b.iid(Kind.CONTAINER, "db"))
    healthy = (b.wait_for(Kind.CONTAINER, "db", Condition.HEALTHY),)
    report = host.apply(
        b.desired(*b.GROUND, b.container("db"), b.container("app", dependencies=healthy))
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
    wanted = b.desired(*b.GROUND, b.job(), b.container(dependencies=waits))

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
    assert not host.apply(b.desired(*b.GROUND, b.container(state="stopped"))).failed
