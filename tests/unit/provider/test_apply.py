"""How a plan is carried out: order, parallelism, failure, what is told."""

import threading

import pytest

from provider.engine.ledger import Ledger
from provider.engine.revision import Revisions
from provider.errors import ApplyError
from provider.model import specs
from provider.model.events import Phase
from provider.model.ids import Kind
from tests.support import builders as b
from tests.support.memory import failing, fates, todo


def test_a_failure_stops_only_what_depends_on_it(host):
    failing(host, "create Container/db")
    wanted = b.desired(
        *b.GROUND,
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
    wanted = b.desired(*b.GROUND, b.container("a"), b.container("b"), b.container("c"))
    report = host.apply(wanted, on_failure="stop")
    assert list(fates(report).values()) == ["ok", "ok", "failed", "skipped", "skipped"]


def test_a_failed_update_keeps_what_was_and_is_tried_again(host):
    host.apply(b.desired(*b.GROUND, b.container()))
    wanted = b.desired(*b.GROUND, b.container(spec=b.container_spec(user="me")))
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
    host.apply(b.desired(*b.GROUND, b.container()))
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
    wanted = b.desired(*b.GROUND, *(b.container(n) for n in "abc"))
    assert not host.apply(wanted).failed


def test_events_tell_the_story(host):
    host.workers = 1
    perform = host.driver.perform

    def talkative(action, context):
        context.progress("half way")
        return perform(action, context)

    host.driver.perform = talkative
    wanted = b.desired(*b.GROUND, b.container())
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
    wanted = b.desired(*b.GROUND, b.container())
    host.apply(wanted)

    def files():
        return {p: p.stat().st_mtime_ns for p in host.state.rglob("*") if p.name != "lock"}

    before = files()
    report = host.apply(wanted)
    assert (report.changed, report.revision, files()) == (False, 1, before)


def test_revisions_tell_who_did_what(host):
    host.apply(b.desired(*b.GROUND))
    failing(host, "create Container/app")
    report = host.apply(b.desired(*b.GROUND, b.container()))
    history = Revisions(host.state, b.PROJECT)
    assert [(r.number, r.result, r.who) for r in history.list()] == [
        (1, "ok", "root@test"),
        (2, "failed", "root@test"),
    ]
    assert report.revision == 2
    assert history.last().summary["failed"] == 1
    assert history.last().sources == ("shop.yaml",)


def test_a_bug_in_a_driver_is_not_swallowed_and_can_be_mended(host):
    def bug(step):
        if step == "start Container/a":
            raise ZeroDivisionError("oops")

    host.world.before_step = bug
    wanted = b.desired(*b.GROUND, b.container("a"), b.container("b"))
    with pytest.raises(ZeroDivisionError):
        host.apply(wanted)
    host.world.before_step = lambda step: None
    plan = host.plan(wanted)
    assert plan.pending[0].leftovers
    assert not host.apply(wanted).failed
    assert host.plan(wanted).is_empty


def test_work_put_off_to_the_end_can_still_fail(host):
    host.driver.postponed = {b.iid(Kind.SERVICE, "web"): ApplyError("nft said no")}
    wanted = b.desired(*b.GROUND, b.service())
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
    wanted = b.desired(*b.GROUND, secret, b.container(spec=spec), secrets={"db": {"p": canary}})
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
