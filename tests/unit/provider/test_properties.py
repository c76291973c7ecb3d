"""What holds for every project: any state to any other, through failures, deaths and meddling.

Blind where diff and simulation are blind together; test_fields covers that side.
"""

import copy
import dataclasses
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provider.drivers.memory import Thing, edit
from provider.errors import ApplyError
from provider.model import specs
from provider.model.ids import InstanceId, Kind
from provider.model.plan import Verb
from provider.model.resource import Condition, Effect
from tests.support import builders as b
from tests.support.memory import Host, todo

LENIENT = {"allow_empty": True, "allow_prune": True, "accept_data_loss": True}

names = st.sampled_from("abcd")
mtus = st.sampled_from([None, 1400])


@st.composite
def projects(draw):
    """A project of any size: images, networks and volumes first, then who uses them."""
    images = draw(st.sets(names, min_size=1, max_size=3))
    networks = draw(st.sets(names, max_size=3))
    volumes = draw(st.sets(names, max_size=2))
    configs = draw(st.sets(names, max_size=2))
    ground = [
        *(b.image(n, specs.ImageConfig(command=(draw(names),))) for n in sorted(images)),
        *(
            b.network(n, specs.Network(internal=draw(st.booleans()), mtu=draw(mtus)))
            for n in sorted(networks)
        ),
        *(b.volume(n) for n in sorted(volumes)),
        *(b.config(n, {"index": draw(names)}) for n in sorted(configs)),
    ]
    resources = []
    for name in sorted(draw(st.sets(names, max_size=4))):
        spec = specs.ContainerSpec(
            specs.ImageRef(draw(st.sampled_from(sorted(images)))),
            user=draw(st.sampled_from([None, "me"])),
            networks=tuple(specs.NetworkJoin(n) for n in sorted(networks) if draw(st.booleans())),
            volumes=tuple(
                specs.VolumeMount(f"/{n}", volume=n) for n in sorted(volumes) if draw(st.booleans())
            ),
            configs=tuple(specs.FileMount(n, f"/c{n}") for n in sorted(configs)),
            resources=specs.Resources(memory=draw(st.sampled_from([None, 64, 128]))),
        )
        waits = tuple(
            b.wait_for(
                earlier.id.kind,
                earlier.id.name,
                Condition.COMPLETED if earlier.id.kind is Kind.JOB else Condition.HEALTHY,
                draw(st.sampled_from(list(Effect))),
            )
            for earlier in resources
            if draw(st.booleans())
        )
        kind = draw(st.sampled_from([Kind.CONTAINER, Kind.SERVICE, Kind.JOB]))
        if kind is Kind.CONTAINER:
            state = draw(st.sampled_from(["running", "running", "stopped"]))
            resources.append(b.container(name, spec, state=state, dependencies=waits))
        elif kind is Kind.SERVICE:
            replicas = draw(st.integers(0, 3))
            resources.append(b.service(name, spec, replicas, dependencies=waits))
        else:
            resources.append(b.job(name, spec, {"idempotent": True}, dependencies=waits))
    return b.desired(*ground, *resources)


def foreign() -> Thing:
    mark = InstanceId(b.rid(Kind.CONTAINER, "a", "theirs"))
    return Thing(Kind.CONTAINER, mark, {"theirs": True})


relaxed = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@relaxed
@given(one=projects(), two=projects())
def test_apply_then_plan_is_empty_and_others_are_untouched(one, two):
    with tempfile.TemporaryDirectory() as folder:
        host = Host(Path(folder))
        host.world.things["theirs"] = foreign()
        for wanted in (one, two, one):
            report = host.apply(wanted, **LENIENT)
            assert [r.failure for r in report.results if r.failure] == []
            assert todo(host.plan(wanted, **LENIENT)) == {}
            assert host.world.things["theirs"] == foreign()
        report = host.delete(delete_volumes=True)
        assert not report.failed
        left = {i for i, t in host.world.things.items() if t.kind is not Kind.IMAGE}
        assert left == {"theirs"}


@relaxed
@given(one=projects(), two=projects(), data=st.data())
def test_after_failures_and_meddling_it_converges(one, two, data):
    with tempfile.TemporaryDirectory() as folder:
        host = Host(Path(folder))
        host.apply(one, **LENIENT)
        meddle(host, data)
        unlucky = data.draw(st.sets(st.integers(0, 40), max_size=4))
        count = iter(range(10**6))

        def fail(step):
            if next(count) in unlucky and step not in ("prepare", "finish"):
                raise ApplyError(f"{step}: no luck")

        host.world.before_step = fail
        host.apply(two, **LENIENT)
        host.world.before_step = lambda step: None
        report = host.apply(two, **LENIENT)
        assert [r.failure for r in report.results if r.failure] == []
        assert todo(host.plan(two, **LENIENT)) == {}


def meddle(host: Host, data: st.DataObject) -> None:
    """Do what an operator with a shell might do to the host."""
    for object_id, thing in sorted(host.world.things.items()):
        act = data.draw(st.sampled_from(["leave", "leave", "remove", "edit", "kill", "copy"]))
        contained = "container" in thing.tree
        if act == "remove" and thing.kind is not Kind.IMAGE:
            del host.world.things[object_id]
        elif act == "edit" and contained:
            edit(thing, memory=7)
        elif act == "kill":
            thing.running = False
        elif act == "copy" and contained:
            host.world.things[f"copy-{object_id}"] = copy.copy(thing)


@relaxed
@given(wanted=projects())
def test_plans_are_in_order_and_say_why(wanted):
    with tempfile.TemporaryDirectory() as folder:
        plan = Host(Path(folder)).plan(wanted)
        seen: set[InstanceId] = set()
        for action in plan:
            assert {need.target for need in action.needs} <= seen
            assert action.reason
            seen.add(action.id)


@relaxed
@given(one=projects(), two=projects())
def test_the_same_question_has_the_same_answer(one, two):
    with tempfile.TemporaryDirectory() as folder:
        host = Host(Path(folder))
        host.apply(one, **LENIENT)
        first, second = host.plan(two, **LENIENT), host.plan(two, **LENIENT)
        assert first == second
        stripped = [dataclasses.replace(a, needs=()) for a in first if a.verb is not Verb.NOOP]
        assert len({a.id for a in stripped}) == len(stripped)
