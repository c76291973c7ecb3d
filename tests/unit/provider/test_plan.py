"""What a plan says, over a world in memory: changes, drift, spread, renames, Jobs, deletes."""

import dataclasses

import pytest

from provider.errors import Origin
from provider.model import specs
from provider.model.ids import Kind
from provider.model.plan import UNKNOWN, Consequence, Verb
from provider.model.resource import Condition, Effect
from provider.planning.plan import make_plan
from tests.support import builders as b
from tests.support.memory import Host, todo
from tests.support.planned import GROUND, SECRETS, only, project


def test_a_fresh_host_needs_everything(host):
    plan = host.plan(project(b.container()))
    assert set(todo(plan).values()) == {"create"}
    assert {a.reason for a in plan} == {"not there yet"}
    assert not host.state.joinpath("projects").exists()


def test_the_second_plan_is_empty(host):
    wanted = project(b.container(), b.service(), b.job())
    host.apply(wanted)
    assert host.plan(wanted).is_empty
    assert len(host.plan(wanted).actions) == 5 + 1 + 3 + 1


def test_a_change_says_where_it_was_written(host):
    host.apply(project(b.container()))
    limits = specs.Resources(memory=1 << 26)
    place = Origin("shop.yaml", 12, 5)
    wanted = b.container(
        spec=b.container_spec(resources=limits), provenance={"container.resources.memory": place}
    )
    action = only(host.plan(project(wanted)), b.iid(Kind.CONTAINER, "app"))
    (change,) = action.changes
    assert (change.path, change.before, change.after) == (
        "container.resources.memory",
        None,
        1 << 26,
    )
    assert (change.consequence, change.origin, change.provenance) == (
        Consequence.LIVE,
        place,
        "manifest",
    )
    assert action.reason == "the manifest changed"


def test_a_field_removed_from_the_manifest_goes_back_to_its_default(host):
    limits = specs.Resources(memory=1 << 26)
    host.apply(project(b.container(spec=b.container_spec(resources=limits))))
    (change,) = only(host.plan(project(b.container())), b.iid(Kind.CONTAINER, "app")).changes
    assert (change.before, change.after, change.provenance) == (1 << 26, None, "default")


def test_an_overlay_is_told_from_the_manifest(host):
    host.apply(project(b.container()))
    place = Origin("prod.yaml", 3, 1, "overlay prod")
    wanted = b.container(spec=b.container_spec(user="me"), provenance={"container.user": place})
    (change,) = only(host.plan(project(wanted)), b.iid(Kind.CONTAINER, "app")).changes
    assert change.provenance == "overlay"


# -- spread


def test_a_new_image_replaces_who_runs_it(host):
    wanted = project(b.container())
    host.apply(wanted)
    host.world.sources["base"] = "newer"
    plan = host.plan(wanted)
    assert todo(plan) == {"Image/base": "update replace", "Container/app": "update replace"}
    changes = {c.path: c.after for c in only(plan, b.iid(Kind.CONTAINER, "app")).changes}
    assert changes["container.image.digest"] == UNKNOWN
    host.apply(wanted)
    assert host.plan(wanted).is_empty


def test_an_image_that_comes_out_the_same_replaces_nobody(host):
    wanted = project(b.container())
    host.apply(wanted)
    before = dict(host.world.things)
    report = host.apply(wanted, refresh_images=True)
    verbs = {str(r.action.id): r.action.verb for r in report.results}
    assert verbs["Image/base"] is Verb.UPDATE
    assert verbs["Container/app"] is Verb.NOOP
    assert host.world.things.keys() == before.keys()


def test_defaults_of_an_image_are_followed(host):
    host.apply(project(b.container()))
    ground = (b.image(config=specs.ImageConfig(command=("sh", "-x"))), *GROUND[1:])
    wanted = project(b.container(), ground=ground)
    report = host.apply(wanted)
    (result,) = (r for r in report.results if r.action.id.resource.kind is Kind.CONTAINER)
    assert {c.path: c.provenance for c in result.action.changes} == {
        "container.command": "image",
        "container.env.LANG": "default",
    }
    assert host.plan(wanted).is_empty


def test_a_replaced_network_takes_its_containers_along(host):
    host.apply(project(b.container(), b.container("loner", b.container_spec(networks=()))))
    ground = (GROUND[0], b.network(spec=specs.Network(internal=True)), *GROUND[2:])
    wanted = project(
        b.container(), b.container("loner", b.container_spec(networks=())), ground=ground
    )
    plan = host.plan(wanted)
    assert todo(plan) == {"Network/front": "update replace", "Container/app": "update replace"}
    assert only(plan, b.iid(Kind.CONTAINER, "app")).reason == "a network of it is made anew"
    assert not host.apply(wanted).failed
    assert host.plan(wanted).is_empty


@pytest.mark.parametrize("kind", [Kind.CONFIG, Kind.SECRET])
def test_new_content_replaces_who_has_it_mounted(host, kind):
    name = "site" if kind is Kind.CONFIG else "db"
    mount = (specs.FileMount(name, "/run/it"),)
    spec = b.container_spec(**{"configs" if kind is Kind.CONFIG else "secrets": mount})
    host.apply(project(b.container(spec=spec), b.container("other")))
    ground = (
        *GROUND[:3],
        b.config(data={"index": "new"}) if kind is Kind.CONFIG else GROUND[3],
        b.secret(values={"password": "new"}) if kind is Kind.SECRET else GROUND[4],
    )
    wanted = b.desired(
        *ground,
        b.container(spec=spec),
        b.container("other"),
        secrets={"db": {"password": "new"}} if kind is Kind.SECRET else SECRETS,
    )
    plan = host.plan(wanted)
    assert todo(plan) == {f"{kind}/{name}": "update live", "Container/app": "update replace"}
    if kind is Kind.SECRET:
        changes = [c for a in plan for c in a.changes]
        hidden = "(sensitive)"
        assert {(c.before, c.after, c.sensitive) for c in changes} == {(hidden, hidden, True)}
    host.apply(wanted)
    assert host.plan(wanted).is_empty


def test_one_key_of_a_config_concerns_only_who_uses_it(host):
    data = {"a": "1", "b": "1"}
    spec_a = b.container_spec(configs=(specs.FileMount("site", "/a", key="a"),))
    spec_b = b.container_spec(env={"B": specs.EnvVar(config="site", key="b")})
    resources = (b.container("one", spec_a), b.container("two", spec_b))
    host.apply(b.desired(GROUND[0], GROUND[1], b.config(data=data), *resources))
    wanted = b.desired(GROUND[0], GROUND[1], b.config(data=data | {"b": "2"}), *resources)
    plan = host.plan(wanted)
    assert todo(plan) == {"Config/site": "update live", "Container/two": "update replace"}
    (change,) = only(plan, b.iid(Kind.CONTAINER, "two")).changes
    assert (change.path, change.before, change.after) == ("container.env.B", "1", "2")


@pytest.mark.parametrize(
    ("effect", "expected"),
    [
        (Effect.ORDER, None),
        (Effect.RESTART, "update restart"),
        (Effect.RECREATE, "update replace"),
    ],
)
def test_a_dependent_follows_as_its_effect_says(host, effect, expected):
    app = b.container(dependencies=(b.wait_for(Kind.CONTAINER, "db", effect=effect),))
    host.apply(project(b.container("db"), app))
    wanted = project(b.container("db", b.container_spec(user="me")), app)
    plan = host.plan(wanted)
    assert todo(plan).get("Container/app") == expected
    host.apply(wanted)
    assert host.plan(wanted).is_empty
    live = project(b.container("db", b.container_spec(user="me", stop_grace=3.0)), app)
    assert todo(host.plan(live)) == {"Container/db": "update live"}


def test_published_ports_follow_their_replicas(host):
    host.apply(project(b.service(replicas=2)))
    more = project(b.service(replicas=3))
    plan = host.plan(more)
    assert todo(plan) == {"Service/web[2]": "create", "Service/web": "update live"}
    host.apply(more)
    fewer = project(b.service(replicas=1))
    plan = host.plan(fewer)
    assert todo(plan) == {
        "Service/web": "update live",
        "Service/web[1]": "delete",
        "Service/web[2]": "delete",
    }
    report = host.apply(fewer)
    assert not report.failed
    assert host.world.log.index("change Service/web") < host.world.log.index(
        "delete Service/web[2]"
    )


def test_replicas_are_replaced_batch_by_batch(host):
    host.apply(project(b.service(replicas=3)))
    wanted = project(b.service(replicas=3, spec=b.container_spec(user="me")))
    plan = host.plan(wanted)
    waits = {a.id.index: [n.target.index for n in a.needs if n.condition is Condition.HEALTHY]
             for a in plan.pending}  # fmt: skip
    # The ports come last: no traffic to a replica that is not ready.
    assert waits == {0: [], 1: [0], 2: [1], -1: [0, 1, 2]}
    # A replica takes as long as its own health check and healthyFor allow it to.
    assert {n.timeout_s for a in plan.pending for n in a.needs if n.condition == "healthy"} == {
        None
    }
    host.world.unhealthy.add(b.iid(Kind.SERVICE, "web", 0))
    report = host.apply(wanted)
    fates = {r.action.id.index: r.fate for r in report.results if "web" in str(r.action.id)}
    assert fates == {0: "failed", 1: "skipped", 2: "skipped", -1: "skipped"}


def test_replicas_that_are_to_stop_need_not_be_healthy_for_it(host):
    host.apply(project(b.service(replicas=3)))
    plan = host.plan(project(b.service(replicas=3, state="stopped")))
    waits = {n.condition for a in plan.pending for n in a.needs if n.target.index >= 0}
    assert waits == {Condition.STARTED}


# -- drift


# -- names, state


def test_a_rename_replaces_nothing(host):
    host.apply(project(b.container(), b.container("old")))
    things = host.world.things.keys()
    wanted = project(b.container(), b.container("new", former_name="old"))
    assert todo(host.plan(wanted)) == {"Container/new": "update live"}
    host.apply(wanted)
    assert host.world.things.keys() == things
    assert host.plan(wanted).is_empty
    assert host.plan(project(b.container(), b.container("new"))).is_empty


def test_a_renamed_network_and_image_change_only_names(host):
    host.apply(project(b.container()))
    before = dict(host.world.things)
    ground = (
        b.image("base2", former_name="base"),
        b.network("front2", former_name="front"),
        *GROUND[2:],
    )
    app = b.container(
        spec=b.container_spec("base2", networks=(specs.NetworkJoin("front2"),)),
        dependencies=(b.wait_for(Kind.NETWORK, "front2"),),
    )
    wanted = project(app, ground=ground)
    plan = host.plan(wanted)
    assert set(todo(plan).values()) == {"update live"}
    assert [c.path for c in only(plan, b.iid(Kind.CONTAINER, "app")).changes if c.cause] == [
        "container.image.name",
        "container.networks[front2].name",
    ]
    assert not host.apply(wanted).failed
    assert host.world.things.keys() == before.keys()
    assert host.plan(wanted).is_empty


def test_stopping_never_replaces_and_starting_catches_up(host):
    host.apply(project(b.container()))
    stopped = project(b.container(state="stopped", spec=b.container_spec(user="me", stop_grace=1)))
    plan = host.plan(stopped)
    assert todo(plan) == {"Container/app": "update restart"}
    assert [c.path for c in plan.pending[0].changes] == ["container.stopGrace", "state"]
    assert plan.warnings == (
        "Container/app is stopped: container.user will change when it runs again",
    )
    host.apply(stopped)
    assert not host.thing(b.iid(Kind.CONTAINER, "app")).running
    assert host.plan(stopped).is_empty
    running = project(b.container(spec=b.container_spec(user="me", stop_grace=1)))
    assert todo(host.plan(running)) == {"Container/app": "update replace"}
    host.apply(running)
    assert host.plan(running).is_empty


def test_a_stopped_one_keeps_its_old_image(host):
    wanted = project(b.container(state="stopped"))
    host.apply(wanted)
    host.world.sources["base"] = "newer"
    assert todo(host.plan(wanted)) == {"Image/base": "update replace"}
    assert not host.apply(wanted).failed
    assert host.plan(wanted).is_empty


# -- Jobs


# -- deletes and order


def test_services_are_needed_as_ports_and_replicas(host):
    waits = (b.wait_for(Kind.SERVICE, "web", Condition.HEALTHY, timeout_s=7),)
    plan = host.plan(project(b.service(), b.container(dependencies=waits)))
    needs = {str(n.target): (n.condition, n.timeout_s) for n in plan.actions[-1].needs}
    assert needs["Service/web"] == (Condition.STARTED, 7)
    assert needs["Service/web[1]"] == (Condition.HEALTHY, 7)


def test_things_of_other_projects_are_used_and_never_touched(host):
    base = Host(host.state, host.world)
    theirs = dataclasses.replace(b.image(), id=b.rid(Kind.IMAGE, "base", "common"))
    from provider.engine.apply import ApplyOptions, apply
    from provider.engine.observe import observe
    from provider.model.resource import Desired

    wanted = Desired("common", (theirs,))
    seen = observe(host.state, "common", [base.driver], desired=wanted)
    apply(make_plan(wanted, seen), wanted, seen, [base.driver], host.state,
          options=ApplyOptions(who="other"))  # fmt: skip
    app = b.container(spec=specs.ContainerSpec(specs.ImageRef("base", "common"), networks=()))
    assert not host.apply(b.desired(app)).failed
    assert host.plan(b.desired(app)).is_empty
    assert host.delete().summary["delete"] == 1
    assert any(t.kind is Kind.IMAGE for t in host.world.things.values())


def test_a_reference_to_what_is_not_there_is_refused(host):
    app = b.container(spec=specs.ContainerSpec(specs.ImageRef("base", "common"), networks=()))
    plan = host.plan(b.desired(app))
    assert plan.refusals == (
        "Container/app needs Image/base, which is not there and not part of this run",
    )


def test_the_fingerprint_tells_states_and_wishes_apart(host):
    one, two = project(b.container()), project(b.container(), b.container("b"))
    fresh = host.plan(one).fingerprint
    assert host.plan(one).fingerprint == fresh
    assert host.plan(two).fingerprint != fresh
    host.apply(one)
    applied = host.plan(one).fingerprint
    assert applied != fresh
    host.thing(b.iid(Kind.CONTAINER, "app")).running = False
    assert host.plan(one).fingerprint != applied
