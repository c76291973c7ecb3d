"""Plans of jobs: when they run, and when again."""

import pytest

from provider.model import specs
from provider.model.ids import Kind
from provider.model.resource import Condition
from tests.support import builders as b
from tests.support.memory import todo
from tests.support.planned import GROUND, project


def test_a_job_runs_once_and_again_when_it_changes(host):
    host.apply(project(b.job()))
    assert host.plan(project(b.job())).is_empty
    changed = project(b.job(spec=b.container_spec(user="me")))
    assert todo(host.plan(changed)) == {"Job/seed": "run"}
    host.apply(changed)
    assert host.plan(changed).is_empty
    later = project(b.job(spec=b.container_spec(user="me"), fields={"timeout": 5.0}))
    assert todo(host.plan(later)) == {"Job/seed": "update live"}


def test_a_job_does_not_run_again_for_a_new_network(host):
    host.apply(project(b.job()))
    ground = (GROUND[0], b.network(spec=specs.Network(internal=True)), *GROUND[2:])
    wanted = project(b.job(), ground=ground)
    assert todo(host.plan(wanted)) == {"Network/front": "update replace", "Job/seed": "update live"}
    host.apply(wanted)
    assert host.plan(wanted).is_empty


@pytest.mark.parametrize(("rerun", "expected"), [("always", {"Job/seed": "run"}), ("never", {})])
def test_rerun(host, rerun, expected):
    fields = {"rerun": rerun}
    host.apply(project(b.job(fields=fields)))
    changed = project(b.job(spec=b.container_spec(user="me"), fields=fields))
    assert todo(host.plan(changed)) == expected


def test_a_failed_job_runs_again_and_holds_up_its_dependents(host):
    waits = (b.wait_for(Kind.JOB, "seed", Condition.COMPLETED),)
    wanted = project(b.job(), b.container(dependencies=waits))
    host.world.failing_jobs["seed"] = 3
    report = host.apply(wanted)
    assert {str(r.action.id): r.fate for r in report.results if r.fate != "ok"} == {
        "Job/seed": "failed",
        "Container/app": "skipped",
    }
    plan = host.plan(wanted)
    assert todo(plan) == {"Job/seed": "run", "Container/app": "create"}
    assert plan.pending[0].reason == ("the last apply failed here: it ended with exit code 3")
    host.world.failing_jobs.clear()
    assert not host.apply(wanted).failed
    assert host.plan(wanted).is_empty


def test_a_rerun_can_be_asked_for(host):
    wanted = project(b.job(fields={"rerun": "never"}))
    host.apply(wanted)
    assert todo(host.plan(wanted, rerun_jobs=frozenset({"seed"}))) == {"Job/seed": "run"}
