"""What goes from one resource to another in one plan: who waits for whom, and who takes over."""

import pytest

from provider.model import specs
from provider.model.ids import Kind
from provider.model.resource import Condition
from tests.support import builders as b

GROUND = (b.image(), b.network(), b.volume())
STOP_FIRST = specs.Update(order="stop-first")
OLD, NEW = b.iid(Kind.CONTAINER, "old"), b.iid(Kind.CONTAINER, "new")


def project(*resources):
    return b.desired(*GROUND, *resources)


def on_port(name, *ports, ip="0.0.0.0", **more):
    return b.container(name, publish=tuple(specs.Publish(p, 80, ip=ip) for p in ports), **more)


def holding(name, spec, **more):
    return b.container(name, spec=b.container_spec(**spec), update=STOP_FIRST, **more)


def order(plan):
    return [str(action.id) for action in plan.pending]


def of(plan, instance):
    (action,) = (a for a in plan.pending if a.id == instance)
    return action


def waits_for(plan, instance):
    return {need.target: need.condition for need in of(plan, instance).needs}


def test_a_port_is_taken_over_before_its_holder_goes(host):
    host.apply(project(on_port("old", 80)))
    wanted = project(on_port("new", 80))
    plan = host.plan(wanted)
    assert order(plan) == ["Container/new", "Container/old"]
    assert of(plan, NEW).takes_over == ("shop/Container/old",)
    assert of(plan, OLD).hands_over == ({"protocol": "tcp", "port": 80, "ip": "0.0.0.0"},)
    assert of(plan, NEW).reason == "not there yet; takes over port 80/tcp of Container/old"
    assert waits_for(plan, OLD) == {NEW: Condition.HEALTHY}
    host.apply(wanted)
    assert host.plan(wanted).is_empty


def test_a_port_is_taken_over_of_one_that_stays(host):
    host.apply(project(on_port("old", 80, 81), on_port("new", 90)))
    plan = host.plan(project(on_port("old", 81), on_port("new", 80, 90)))
    assert order(plan) == ["Container/new", "Container/old"]
    assert of(plan, NEW).takes_over == ("shop/Container/old",)


def test_who_takes_a_port_may_wait_for_who_gives_it_up(host):
    host.apply(project(on_port("old", 80)))
    needs = (b.wait_for(Kind.CONTAINER, "old"),)
    plan = host.plan(project(on_port("old"), on_port("new", 80, dependencies=needs)))
    assert order(plan) == ["Container/old", "Container/new"]
    assert of(plan, NEW).takes_over == ("shop/Container/old",)


@pytest.mark.parametrize("moves", ["port", "address"])
def test_what_was_waited_for_once_is_nothing_to_build_upon(host, moves):
    fixed = {"networks": (specs.NetworkJoin("front", ip="10.0.0.9"),)}
    if moves == "port":
        first, then = (on_port("old", 80), on_port("new")), (on_port("old"), on_port("new", 80))
    else:
        first = holding("old", fixed), b.container("new")
        then = b.container("old"), holding("new", fixed)
    host.apply(project(*first))
    host.apply(project(*then))
    # The other way round, now for good, and all of it goes.
    waits = b.wait_for(*(Kind.CONTAINER, "new" if moves == "address" else "old"))
    late = "old" if moves == "address" else "new"
    turned = b.container(late, dependencies=(waits,))
    early = b.container("new" if late == "old" else "old")
    host.apply(project(early, turned))
    host.apply(project())
    assert host.plan(project()).is_empty


def test_ports_that_change_places_go_over_one_after_the_other(host):
    host.apply(project(on_port("old", 80), on_port("new", 81)))
    wanted = project(on_port("old", 81), on_port("new", 80))
    plan = host.plan(wanted)
    assert {a.id: a.takes_over for a in plan.pending} == {
        OLD: ("shop/Container/new",),
        NEW: ("shop/Container/old",),
    }
    assert order(plan) == ["Container/old", "Container/new"]
    host.apply(wanted)
    assert host.plan(wanted).is_empty


def test_one_port_on_two_addresses_is_no_concern_of_either(host):
    host.apply(project(on_port("old", 80, ip="127.0.0.1")))
    plan = host.plan(project(on_port("new", 80, ip="127.0.0.2")))
    assert of(plan, NEW).takes_over == ()
    plan = host.plan(project(on_port("new", 80)))
    assert of(plan, NEW).takes_over == ("shop/Container/old",)
    assert of(plan, NEW).reason.endswith("takes over port 80/tcp of Container/old")


def test_what_was_open_on_all_addresses_is_closed_on_the_others(host):
    host.apply(project(on_port("old", 80)))
    plan = host.plan(project(on_port("new", 80, ip="127.0.0.1")))
    words = "takes over port 127.0.0.1:80/tcp of Container/old: on other addresses closed meanwhile"
    assert of(plan, NEW).reason.endswith(words)


def test_a_port_of_a_renamed_one_is_taken_over_under_either_name(host):
    host.apply(project(on_port("old", 80), on_port("new", 81)))
    renamed = on_port("older", 81, former_name="old")
    plan = host.plan(project(renamed, on_port("new", 80)))
    assert of(plan, NEW).takes_over == ("shop/Container/old", "shop/Container/older")


def test_replicas_that_stop_serve_until_their_port_is_taken(host):
    ports = (specs.Publish(80, 80),)
    host.apply(project(b.service("blue", publish=ports), b.service("green", publish=())))
    blue = b.service("blue", publish=(), state="stopped")
    plan = host.plan(project(blue, b.service("green", publish=ports)))
    taker = b.iid(Kind.SERVICE, "green")
    for index in (0, 1):
        assert taker in waits_for(plan, b.iid(Kind.SERVICE, "blue", index))


def test_a_service_takes_over_with_its_ports(host):
    ports = (specs.Publish(80, 80),)
    host.apply(project(b.service("blue", publish=ports), b.service("green", publish=())))
    plan = host.plan(project(b.service("blue", publish=()), b.service("green", publish=ports)))
    assert order(plan) == ["Service/green", "Service/blue"]
    assert of(plan, b.iid(Kind.SERVICE, "green")).takes_over == ("shop/Service/blue",)


DATA = specs.VolumeMount("/data", volume="data", project=b.PROJECT)


@pytest.mark.parametrize(
    "spec",
    [
        {"volumes": (DATA,)},
        {"devices": (specs.Device("/dev/fuse", "/dev/fuse"),)},
        {"networks": (specs.NetworkJoin("front", ip="10.0.0.9"),)},
    ],
    ids=lambda spec: next(iter(spec)),
)
def test_what_cannot_be_shared_is_let_go_first(host, spec):
    host.apply(project(holding("old", spec)))
    plan = host.plan(project(holding("new", spec)))
    assert order(plan) == ["Container/old", "Container/new"]
    assert waits_for(plan, NEW)[OLD] is Condition.STARTED

    # Also by one that stays: its old container is gone when the new one has settled.
    plan = host.plan(project(b.container("old"), holding("new", spec)))
    assert order(plan) == ["Container/old", "Container/new"]
    assert waits_for(plan, NEW)[OLD] is Condition.HEALTHY


def test_a_new_order_lets_go_of_nothing(host):
    host.apply(project(holding("old", {"volumes": (DATA,)})))
    same = b.container("old", spec=b.container_spec(volumes=(DATA,)))
    plan = host.plan(project(same, holding("new", {"volumes": (DATA,)})))
    assert OLD not in waits_for(plan, NEW)


def test_a_volume_that_is_shared_or_only_read_keeps_nobody_waiting(host):
    read = specs.VolumeMount("/data", volume="data", project=b.PROJECT, read_only=True)
    host.apply(project(holding("old", {"volumes": (read,)})))
    plan = host.plan(project(holding("new", {"volumes": (DATA,)})))
    assert OLD not in waits_for(plan, NEW)


def test_a_volume_goes_before_the_port_that_goes_with_it(host):
    ports = (specs.Publish(80, 80),)
    host.apply(project(holding("old", {"volumes": (DATA,)}, publish=ports)))
    plan = host.plan(project(holding("new", {"volumes": (DATA,)}, publish=ports)))
    assert order(plan) == ["Container/old", "Container/new"]
    assert of(plan, NEW).reason.endswith("of Container/old, which goes first: closed meanwhile")
