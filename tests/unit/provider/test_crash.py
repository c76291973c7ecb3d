"""Killed at any point, the next apply converges: every effect, every line of journal and ledger."""

import contextlib
import itertools
import os
import subprocess
import sys

import pytest

from provider.engine.journal import Journal
from provider.engine.ledger import Ledger
from provider.engine.observe import observe
from provider.engine.revision import Revisions
from provider.model import specs
from provider.model.ids import Kind
from provider.model.plan import Verb
from provider.model.resource import Condition, Effect
from tests.support import builders as b
from tests.support.memory import Host, todo


class KilledError(BaseException):
    """The process is gone: nobody cleans up."""


class Fuse:
    """Kills at the *n*-th point; counts them while *n* is out of reach."""

    def __init__(self) -> None:
        self.left = self.seen = 10**9

    def arm(self, n: int) -> None:
        self.left = n

    def point(self, *_: object) -> None:
        self.left -= 1
        self.seen -= 1
        if self.left < 0:
            raise KilledError


WRITES = [
    (Ledger, "write"),
    (Ledger, "delete"),
    (Ledger, "sync"),
    (Journal, "begin"),
    (Journal, "started"),
    (Journal, "end"),
    (Revisions, "write"),
]


@pytest.fixture
def fuse(monkeypatch):
    fuse = Fuse()
    monkeypatch.setattr(os, "fsync", lambda fd: None)  # the death is the process's, not the disk's

    def wrapped(original):
        def call(*args, **kwargs):
            fuse.point()
            result = original(*args, **kwargs)
            fuse.point()
            return result

        return call

    for owner, name in WRITES:
        monkeypatch.setattr(owner, name, wrapped(getattr(owner, name)))
    return fuse


def project(user, *, replicas=2, extra=(), internal=False, content="hello", job_user=None):
    mounts = {"volumes": (specs.VolumeMount("/data", volume="data"),)}
    site = {"configs": (specs.FileMount("site", "/srv"),)}
    return b.desired(
        b.image(),
        b.network(spec=specs.Network(internal=internal)),
        b.volume(),
        b.config(data={"index": content}),
        b.container("db", b.container_spec(user=user, **mounts)),
        b.job(
            spec=b.container_spec(user=job_user),
            fields={"idempotent": True},
            dependencies=(b.wait_for(Kind.CONTAINER, "db", Condition.HEALTHY),),
        ),
        b.service(
            replicas=replicas,
            spec=b.container_spec(**site),
            dependencies=(
                b.wait_for(Kind.JOB, "seed", Condition.COMPLETED),
                b.wait_for(Kind.CONTAINER, "db", effect=Effect.RESTART),
            ),
        ),
        *extra,
    )


SCENARIOS = {
    "create": (None, project("me")),
    "replace": (project("me"), project("you", job_user="x")),
    "live": (project("me"), project("me", replicas=3, content="new")),
    "network": (project("me"), project("me", internal=True)),
    "prune": (project("me", extra=(b.container("old"), b.config("c"))), project("me", replicas=1)),
    "rename": (
        project("me", extra=(b.container("old"),)),
        project("me", extra=(b.container("new", former_name="old"),)),
    ),
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_killed_anywhere_it_converges(tmp_path, fuse, scenario):
    before, after = SCENARIOS[scenario]
    for n in itertools.count():
        host = Host(tmp_path / str(n), workers=1)
        if before is not None:
            fuse.arm(10**9)
            host.apply(before)
        host.world.before_step = fuse.point
        fuse.arm(n)
        try:
            host.apply(after)
        except KilledError:
            pass
        else:
            break
        # A second death, in the middle of mending.
        fuse.arm(n % 7)
        with contextlib.suppress(KilledError):
            host.apply(after)
        fuse.arm(10**9)
        check_converges(host, after, f"killed at {n}")
    assert n > 15


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_killed_anywhere_it_can_go_back(tmp_path, fuse, scenario):
    before, after = SCENARIOS[scenario]
    if before is None:
        return
    for n in itertools.count(0, 2):
        host = Host(tmp_path / str(n), workers=1)
        fuse.arm(10**9)
        host.apply(before)
        host.world.before_step = fuse.point
        fuse.arm(n)
        try:
            host.apply(after)
        except KilledError:
            fuse.arm(10**9)
            check_converges(host, before, f"killed at {n}")
        else:
            break


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_killed_anywhere_it_can_be_deleted(tmp_path, fuse, scenario):
    before, after = SCENARIOS[scenario]
    for n in itertools.count(1, 3):
        host = Host(tmp_path / str(n), workers=1)
        fuse.arm(10**9)
        if before is not None:
            host.apply(before)
        host.world.before_step = fuse.point
        fuse.arm(n)
        try:
            host.apply(after)
        except KilledError:
            fuse.arm(10**9)
            report = host.delete(delete_volumes=True)
            assert not report.failed
            assert [m for m in host.marks() if not m.startswith("Image")] == [], f"killed at {n}"
            assert not host.delete().changed
        else:
            break


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_killed_anywhere_there_is_a_revision_of_what_it_changed(tmp_path, fuse, scenario):
    before, after = SCENARIOS[scenario]
    for n in itertools.count():
        host = Host(tmp_path / str(n), workers=1)
        fuse.arm(10**9)
        earlier = 0 if before is None else host.apply(before).revision
        ledger = Ledger(host.state, b.PROJECT).read()
        host.world.before_step = fuse.point
        fuse.arm(n)
        try:
            host.apply(after)
        except KilledError:
            pass
        else:
            break
        cut_off = Journal(host.state, b.PROJECT).read()
        revisions = Revisions(host.state, b.PROJECT)
        written = len(revisions.list()) > earlier
        if cut_off is None:
            changed = Ledger(host.state, b.PROJECT).read() != ledger
            assert written == changed, f"killed at {n}"
        fuse.arm(n % 5)  # the next one is killed while it takes up what there is
        with contextlib.suppress(KilledError):
            host.apply(after)
        fuse.arm(10**9)
        host.apply(after)
        history = revisions.list()[earlier:]
        assert [r.number for r in history] == [earlier + 1 + i for i in range(len(history))]
        assert {r.desired for r in history} == {after.fingerprint}
        assert all(sum(r.summary.values()) for r in history), f"killed at {n}"
        if cut_off is not None and cut_off.started and not written:
            assert history[0].result == "interrupted", f"killed at {n}"
        assert history[-1].result == "ok" or not host.apply(after).changed, f"killed at {n}"


def test_an_apply_that_was_killed_is_in_the_history(tmp_path, fuse):
    host = Host(tmp_path, workers=1)
    wanted = b.desired(b.image(), b.network(), b.container("db"), b.container("app"))

    def die(step):
        if step == "start Container/db":
            raise KilledError

    host.world.before_step = die
    with pytest.raises(KilledError):
        host.apply(wanted)
    host.world.before_step = lambda step: None
    assert host.apply(wanted).revision == 2
    killed, done = Revisions(host.state, b.PROJECT).list()
    assert (killed.number, killed.result, killed.who) == (1, "interrupted", "root@test")
    assert killed.sources == done.sources == ("shop.yaml",)
    assert {what: n for what, n in killed.summary.items() if n} == {"create": 2, "skipped": 1}
    assert (done.result, done.summary["create"]) == ("ok", 2)


def check_converges(host, wanted, when):
    report = host.apply(wanted)
    failures = [(str(r.action.id), r.failure) for r in report.results if r.failure]
    assert not failures, when
    again = host.plan(wanted)
    assert todo(again) == {}, when
    wanted_marks = {str(action.id) for action in again}
    assert set(host.marks()) == wanted_marks, when
    entries = Ledger(host.state, b.PROJECT).read()
    owned = {entry.object_id for entry in entries.values()}
    assert {i for i, t in host.world.things.items() if t.kind is not Kind.IMAGE} <= owned, when
    assert not any(e.leftovers or e.attempt for e in entries.values()), when
    assert not Journal(host.state, b.PROJECT).path.exists(), when
    temporary = [p for p in host.state.rglob(".*") if p.is_file()]
    assert temporary == [], when


def test_a_job_that_may_have_run_is_not_repeated_by_itself(tmp_path, fuse):
    host = Host(tmp_path, workers=1)
    wanted = b.desired(b.image(), b.network(), b.job())
    host.world.before_step = lambda step: (_ for _ in ()).throw(KilledError) if (
        step == "complete Job/seed"
    ) else None  # fmt: skip
    with pytest.raises(KilledError):
        host.apply(wanted)
    host.world.before_step = lambda step: None
    plan = host.plan(wanted)
    assert plan.is_empty
    assert "--rerun-job seed" in plan.warnings[0]
    assert host.apply(wanted).changed is False
    assert todo(host.plan(wanted, rerun_jobs=frozenset({"seed"}))) == {"Job/seed": "run"}
    idempotent = b.desired(b.image(), b.network(), b.job(fields={"idempotent": True}))
    assert todo(host.plan(idempotent)) == {"Job/seed": "run"}
    assert not host.apply(idempotent).failed
    assert host.plan(idempotent).is_empty


@pytest.mark.parametrize("step", ["start Job/seed", "complete Job/seed"])
@pytest.mark.parametrize(("exit_code", "expected"), [(0, {}), (3, {"Job/seed": "run"})])
def test_how_a_job_ended_meanwhile_is_known_and_kept(tmp_path, step, exit_code, expected):
    host = Host(tmp_path, workers=1)
    wanted = b.desired(b.image(), b.network(), b.job())
    host.world.before_step = lambda now: (_ for _ in ()).throw(KilledError) if (
        now == step
    ) else None  # fmt: skip
    with pytest.raises(KilledError):
        host.apply(wanted)
    host.world.before_step = lambda step: None
    ran = host.thing(b.iid(Kind.JOB, "seed"))
    ran.running, ran.exit_code = False, exit_code
    assert todo(host.plan(wanted)) == expected
    host.apply(wanted)
    assert todo(host.plan(wanted)) == {}
    job = Ledger(host.state, b.PROJECT).read()[b.iid(Kind.JOB, "seed")]
    assert job.record["result"]["state"] == "succeeded"
    assert {need.resource.kind for need in job.needs} == {Kind.IMAGE, Kind.NETWORK}
    assert not job.attempt


def test_a_job_that_was_changed_and_not_begun_runs(tmp_path, fuse):
    host = Host(tmp_path, workers=1)
    host.apply(b.desired(b.image(), b.network(), b.job()))
    changed = b.desired(b.image(), b.network(), b.job(spec=b.container_spec(user="x")))

    def die(step):
        if step == "replace Job/seed":
            raise KilledError

    host.world.before_step = die
    with pytest.raises(KilledError):
        host.apply(changed)
    host.world.before_step = lambda step: None
    assert todo(host.plan(changed)) == {"Job/seed": "run"}


def test_after_a_power_loss_everything_of_the_journal_is_suspect(tmp_path, monkeypatch):
    host = Host(tmp_path, workers=1)
    wanted = b.desired(b.image(), b.network(), b.container())

    def die(step):
        if step == "create Container/app":
            raise KilledError

    host.world.before_step = die
    with pytest.raises(KilledError):
        host.apply(wanted)
    host.world.before_step = lambda step: None
    journal = Journal(host.state, b.PROJECT)
    marks = journal.path.read_text().splitlines()
    journal.path.write_text(marks[0].replace('"bootId":"', '"bootId":"other-') + "\n")
    interrupted = journal.read()
    assert {str(s.id) for s in interrupted.started} == {
        "Image/base",
        "Network/front",
        "Container/app",
    }
    seen = observe(host.state, b.PROJECT, [host.driver])
    pending = {str(o.id): o.leftovers for o in seen.observed if o.attempt}
    assert list(pending) == ["Container/app"]
    assert not host.apply(wanted).failed
    assert host.plan(wanted).is_empty


def test_a_reader_does_not_take_an_apply_at_work_for_a_dead_one(tmp_path):
    host = Host(tmp_path, workers=1)
    wanted = b.desired(b.image(), b.network(), b.container())
    seen = []
    look = f"""if True:
        from pathlib import Path
        from provider.drivers.memory import MemoryDriver, MemoryWorld
        from provider.engine.observe import observe
        seen = observe(Path({str(host.state)!r}), {b.PROJECT!r}, [MemoryDriver(MemoryWorld())])
        print([str(o.id) for o in seen.observed if o.attempt])
    """

    def start(step):
        if step == "start Container/app":
            seen.append(subprocess.check_output([sys.executable, "-c", look], text=True))

    host.world.before_step = start
    host.apply(wanted)
    assert seen == ["[]\n"]


def test_an_interrupted_step_says_so(tmp_path):
    host = Host(tmp_path, workers=1)
    wanted = b.desired(b.image(), b.network(), b.container())

    def die(step):
        if step == "start Container/app":
            raise KilledError

    host.world.before_step = die
    with pytest.raises(KilledError):
        host.apply(wanted)
    (action,) = host.plan(wanted).pending
    assert (action.verb, action.reason) == (Verb.CREATE, "left behind by an interrupted apply")
    assert len(action.leftovers) == 1
