"""What a plan says, over a world in memory: changes, drift, spread, renames, Jobs, deletes."""

import dataclasses

import pytest

from provider.drivers.memory import edit
from provider.errors import Origin
from provider.model import specs
from provider.model.ids import Kind
from provider.model.plan import UNKNOWN, Consequence, Verb
from provider.model.resource import Condition, Effect
from provider.planning.expand import is_ports
from provider.planning.plan import make_plan
from tests.support import builders as b
from tests.support.memory import Host, todo

GROUND = (b.image(), b.network(), b.volume(), b.config(), b.secret(values={"password": "x"}))
SECRETS = {"db": {"password": "x"}}


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


def project(*resources, ground=GROUND, **more):
    return b.desired(*ground, *resources, secrets=SECRETS, **more)


def only(plan, instance):
    (action,) = (a for a in plan.pending if a.id == instance)
    return action


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


def test_drift_is_one_line_with_its_cause(host):
    wanted = project(b.container())
    host.apply(wanted)
    edit(host.thing(b.iid(Kind.CONTAINER, "app")), memory=5)
    (action,) = host.plan(wanted).pending
    (change,) = action.changes
    assert (change.path, change.before, change.after) == ("container.resources.memory", 5, None)
    assert (action.reason, change.provenance) == ("memory was edited by hand", "kernel")
    assert action.consequence is Consequence.LIVE
    host.apply(wanted)
    assert host.plan(wanted).is_empty


def test_drift_and_a_new_wish_for_one_field_are_one_change(host):
    host.apply(project(b.container()))
    edit(host.thing(b.iid(Kind.CONTAINER, "app")), memory=5)
    wanted = project(b.container(spec=b.container_spec(resources=specs.Resources(memory=9))))
    (action,) = host.plan(wanted).pending
    (change,) = action.changes
    assert (change.before, change.after, change.cause) == (5, 9, "memory was edited by hand")


def test_what_was_killed_is_restarted_and_what_is_gone_is_made_again(host):
    wanted = project(b.container(), b.container("other"))
    host.apply(wanted)
    host.thing(b.iid(Kind.CONTAINER, "app")).running = False
    other = next(i for i, t in host.world.things.items() if t.mark.resource.name == "other")
    del host.world.things[other]
    assert todo(host.plan(wanted)) == {
        "Container/app": "update restart",
        "Container/other": "update replace",
    }
    host.apply(wanted)
    assert host.plan(wanted).is_empty


def test_ignored_drift_and_wishes_are_left_alone(host):
    ignore = ("container.resources", "container.env.A")
    spec = b.container_spec(env={"A": specs.EnvVar("1")})
    host.apply(project(b.container(spec=spec, ignore=ignore)))
    edit(host.thing(b.iid(Kind.CONTAINER, "app")), memory=5)
    edited = b.container_spec(
        env={"A": specs.EnvVar("2")}, resources=specs.Resources(pids=7), stop_grace=3.0
    )
    wanted = project(b.container(spec=edited, ignore=ignore))
    (action,) = host.plan(wanted).pending
    assert [c.path for c in action.changes] == ["container.stopGrace"]
    host.apply(wanted)
    assert host.plan(wanted).is_empty


def test_an_ignored_image_keeps_its_defaults(host):
    app = b.container(ignore=("container.image",))
    host.apply(project(app))
    host.world.sources["base"] = "newer"
    ground = (b.image(config=specs.ImageConfig(command=("other",))), *GROUND[1:])
    wanted = project(app, ground=ground)
    assert todo(host.plan(wanted)) == {"Image/base": "update replace"}
    host.apply(wanted)
    assert host.plan(wanted).is_empty


def test_a_stray_replica_is_a_container_and_no_published_ports(host):
    wanted = project(b.service(replicas=1))
    host.apply(wanted)
    replica = host.thing(b.iid(Kind.SERVICE, "web", index=0))
    host.world.things["stray"] = dataclasses.replace(replica)
    (action,) = host.plan(wanted).pending
    assert str(action.id) == "Service/stray[0]"
    assert not is_ports(action.id)
    host.apply(wanted)
    assert "stray" not in host.world.things
    assert host.plan(wanted).is_empty


def test_strays_go_and_things_of_others_stay(host):
    wanted = project(b.container())
    host.apply(wanted)
    thing = host.thing(b.iid(Kind.CONTAINER, "app"))
    host.world.things["stray"] = dataclasses.replace(thing)
    foreign = dataclasses.replace(thing.mark, resource=b.rid(Kind.CONTAINER, "app", "else"))
    host.world.things["theirs"] = dataclasses.replace(thing, mark=foreign)
    (action,) = host.plan(wanted).pending
    assert (action.verb, action.object_id) == (Verb.DELETE, "stray")
    assert "marked as Container/app" in action.reason
    host.apply(wanted)
    assert "stray" not in host.world.things
    assert "theirs" in host.world.things
    assert host.plan(wanted).is_empty


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


# -- deletes and order


def test_what_is_not_wanted_goes_users_first(host):
    host.apply(project(b.container(), b.service(), b.container("stays")))
    report = host.apply(project(b.container("stays")))
    assert not report.failed
    gone = [str(r.action.id) for r in report.results if r.action.verb is Verb.DELETE]
    assert gone == ["Service/web", "Service/web[0]", "Service/web[1]", "Container/app"]


def test_a_network_goes_after_its_containers_have_moved(host):
    host.apply(
        b.desired(
            b.image(),
            b.network("old"),
            b.network("new"),
            b.container(spec=b.container_spec(networks=(specs.NetworkJoin("old"),))),
        )
    )
    wanted = b.desired(
        b.image(),
        b.network("new"),
        b.container(spec=b.container_spec(networks=(specs.NetworkJoin("new"),))),
    )
    plan = host.plan(wanted)
    assert [str(n.target) for n in plan.actions[-1].needs] == ["Container/app"]
    assert not host.apply(wanted).failed
    log = host.world.log
    assert log.index("replace Container/app") < log.index("delete Network/old")


def test_what_a_stopped_one_has_is_kept_until_it_runs_again(host):
    wide = b.container_spec(networks=(specs.NetworkJoin("old"),))
    host.apply(project(b.network("old"), b.container(spec=wide)))
    stopped = project(b.container(state="stopped"))
    plan = host.plan(stopped)
    words = "Network/old: Container/app has it until it is made anew or removed"
    assert plan.kept == (words,)
    host.apply(stopped)
    plan = host.plan(stopped)
    assert plan.is_empty
    assert plan.kept == (words,)
    host.apply(project(b.container()))
    log = host.world.log
    assert log.index("delete Network/old") > log.index("replace Container/app")
    assert host.plan(project(b.container())).is_empty


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
