"""Plans of what is otherwise than it was made: drift, what is ignored, strays."""

import dataclasses

from provider.drivers.memory import edit
from provider.model import specs
from provider.model.ids import Kind
from provider.model.plan import Consequence, Verb
from provider.planning.expand import is_ports
from tests.support import builders as b
from tests.support.memory import todo
from tests.support.planned import GROUND, project


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
