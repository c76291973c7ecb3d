"""What a boot brings back, by what the ledger and the last status say."""

import pytest

from provider.model.ids import InstanceId, Kind, ResourceId
from provider.model.plan import Verb
from provider.model.resource import Attempt, Condition, Deviation, Observed, World
from provider.planning.boot import make_boot_plan, make_shutdown_plan

DOWN = Deviation("state", "running", "created", "it ended with the host", (), "restart")
LOST = Deviation("kernel.container", "present", "missing", "it is gone", (), "replace")


def found(name, *, wants="running", needs=(), down=(DOWN,), kind=Kind.CONTAINER, **more):
    edges = [
        {"kind": "Container", "name": n, "condition": "healthy", "timeout": 5.0} for n in needs
    ]
    return Observed(
        InstanceId(ResourceId("p", kind, name)),
        f"id-{name}",
        {"state": wants, "dependsOn": edges, "container": {}},
        deviations=down,
        **more,
    )


def plan(*observed):
    made = make_boot_plan("p", World(observed))
    return {a.id.resource.name: a for a in made}, made.warnings


def test_what_ran_is_started_after_what_it_depends_on():
    actions, _ = plan(found("a", needs=("b",)), found("b"))
    assert [*actions] == ["b", "a"]
    assert {a.verb for a in actions.values()} == {Verb.UPDATE}
    (need,) = actions["a"].needs
    assert (need.target.resource.name, need.condition) == ("b", Condition.HEALTHY)


@pytest.mark.parametrize(
    "idle",
    [
        found("a", wants="stopped"),
        found("a", down=()),
        found("a", status={"stopRequested": True}),
    ],
)
def test_what_was_not_to_run_or_runs_is_left_alone(idle):
    actions, warnings = plan(idle)
    assert (actions["a"].verb, warnings) == (Verb.NOOP, ())


def test_jobs_are_never_run():
    assert plan(found("a", kind=Kind.JOB)) == ({}, ())


@pytest.mark.parametrize(
    ("verb", "stage", "leftovers", "verdict"),
    [
        ("update", "perform", (), Verb.UPDATE),  # stopped for its successor: it serves on
        ("update", "settle", ("old",), Verb.UPDATE),
        ("create", "settle", (), Verb.NOOP),  # never well: there is nothing to go back to
        ("delete", "perform", (), Verb.NOOP),
    ],
)
def test_an_apply_that_did_not_get_through_is_the_next_ones(verb, stage, leftovers, verdict):
    tried = Attempt(verb, "replace", stage=stage)
    actions, (said,) = plan(
        found("a", attempt=tried, leftovers=leftovers, status={"stopRequested": True})
    )
    assert actions["a"].verb is verdict
    assert actions["a"].leftovers == leftovers
    assert said.startswith("Container/a: an apply was cut off here")
    assert "the next apply goes on" in said


def test_what_is_gone_is_told_and_not_made_anew():
    actions, (said,) = plan(found("a", down=(LOST,)))
    assert actions["a"].verb is Verb.NOOP
    assert said == "Container/a: it is gone; the next apply makes it anew"


def test_what_served_comes_back_also_when_its_successor_is_gone():
    tried = Attempt("update", "replace", stage="settle")
    actions, (said,) = plan(found("a", down=(LOST,), attempt=tried, leftovers=("old",)))
    assert (actions["a"].verb, actions["a"].leftovers) == (Verb.UPDATE, ("old",))
    assert "what served before it comes back" in said


def test_a_shutdown_goes_the_other_way_round():
    runs = {"state": "running"}
    made = make_shutdown_plan(
        "p",
        World(
            (
                found("a", down=(), status=runs),
                found("b", needs=("a",), down=(), status=runs),
                found("c"),
            )
        ),
    )
    assert [a.id.resource.name for a in made] == ["b", "a"]
    assert [n.target.resource.name for a in made for n in a.needs] == ["b"]
