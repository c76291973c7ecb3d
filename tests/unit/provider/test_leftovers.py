"""What was left half way: by a crash, by a failure, or by somebody else being quicker."""

from dataclasses import replace

import pytest

from provider.drivers.publication import with_backend
from provider.engine.ledger import Ledger
from provider.engine.observe import observe
from provider.errors import ApplyError
from provider.model import specs
from provider.model.ids import Kind
from provider.model.plan import UNKNOWN, Verb
from provider.model.resource import Attempt, World
from provider.planning.plan import make_delete_plan
from runtime.network.model import Publication
from tests.support import builders as b
from tests.support.memory import Host, todo

OLD, NEW, OTHER = "10.0.0.2", "10.0.0.3", "10.0.0.4"


def published(*backends: str, port: int = 8080) -> Publication:
    return Publication(port, "tcp", tuple((address, 80) for address in backends))


def test_a_backend_moves_whatever_port_it_is_behind_by_now():
    """The action on the ports may have come in between: its port stays."""
    spec = [{"ip": "0.0.0.0", "protocol": "tcp", "port": 9090, "targetPort": 81}]
    moved = with_backend(
        [published(OLD, OTHER)], spec, add=NEW, remove={OLD}, leased=[OLD, NEW, OTHER]
    )
    assert moved == (published(NEW, OTHER),)


def test_a_port_without_backends_takes_its_target_from_the_spec():
    spec = [{"ip": "0.0.0.0", "protocol": "tcp", "port": 8080, "targetPort": 80}]
    assert with_backend([published()], spec, add=NEW, remove=(), leased=[NEW]) == (published(NEW),)
    assert with_backend([published()], [], add=NEW, remove=(), leased=[NEW]) == (published(),)


def test_an_address_nobody_holds_serves_nobody():
    assert with_backend([published(OLD, NEW)], [], add=None, remove=(), leased=[NEW]) == (
        published(NEW),
    )


def test_what_was_never_finished_goes_before_all_it_may_be_built_on(tmp_path):
    host = Host(tmp_path)
    host.apply(b.desired(b.image(), b.network(), b.volume(), b.config(), b.container()))
    seen = observe(host.state, b.PROJECT, [host.driver])
    half = [
        replace(o, effective=None, needs=(), leftovers=("half",), object_id="")
        if o.id.resource.kind is Kind.CONTAINER
        else o
        for o in seen.observed
    ]
    half = [o if o.effective else replace(o, attempt=Attempt(Verb.CREATE, "none")) for o in half]
    plan = make_delete_plan(b.PROJECT, World(observed=tuple(half)))
    container = b.iid(Kind.CONTAINER, "app")
    for action in plan:
        if action.id != container and action.verb is Verb.DELETE:
            assert container in [need.target for need in action.needs]


def test_a_lost_container_is_made_as_it_is_wanted_even_if_it_does_not_run(tmp_path):
    """Changes of a stopped container wait until it is made anew; a lost one is made anew now."""
    with_config = b.container_spec(configs=(specs.FileMount("site", "/srv"),))
    host = Host(tmp_path)
    ground = (b.image(), b.network())
    host.apply(b.desired(*ground, b.config(), b.container(spec=with_config, state="stopped")))
    wanted = b.desired(*ground, b.container(state="stopped"))
    host.apply(wanted)
    assert host.thing(b.iid(Kind.CONTAINER, "app")).tree["container"]["configs"]
    (lost,) = [i for i, thing in host.world.things.items() if thing.kind is Kind.CONTAINER]
    del host.world.things[lost]
    assert not host.apply(wanted).failed
    assert host.thing(b.iid(Kind.CONTAINER, "app")).tree["container"]["configs"] == []
    assert todo(host.plan(wanted)) == {}


def test_a_network_that_is_replaced_takes_other_addresses(tmp_path):
    """The old one keeps its own until its containers have moved."""
    host = Host(tmp_path)
    host.apply(b.desired(b.image(), b.network(), b.container()))
    wanted = b.desired(b.image(), b.network(spec=specs.Network(internal=True)), b.container())
    (network, _) = host.plan(wanted).pending
    assert {change.path: change.after for change in network.changes}["subnet"] == UNKNOWN
    assert not host.apply(wanted).failed
    assert todo(host.plan(wanted)) == {}


def test_a_delete_that_failed_and_left_everything_is_over(tmp_path):
    host = Host(tmp_path)
    wanted = b.desired(b.image(), b.network(), b.volume(), b.config(), b.container())
    host.apply(wanted)

    def refuse(step):
        if step.startswith("delete"):
            raise ApplyError("somebody is on it")

    host.world.before_step = refuse
    assert host.delete(delete_volumes=True).failed
    host.world.before_step = lambda step: None
    assert todo(host.plan(wanted)) == {}
    host.apply(wanted)
    assert all(entry.attempt is None for entry in Ledger(tmp_path, b.PROJECT).read().values())
    (network,) = [i for i, thing in host.world.things.items() if thing.kind is Kind.NETWORK]
    assert host.plan(wanted).is_empty
    host.delete(delete_volumes=True)
    assert network not in host.world.things


def test_a_volume_whose_deletion_was_cut_off_is_made_anew(tmp_path, monkeypatch):
    host = Host(tmp_path)
    wanted = b.desired(b.volume())
    host.apply(wanted)
    (lost,) = host.world.things

    def die(self, instance):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "delete", die)
        with pytest.raises(KeyboardInterrupt):
            host.delete(delete_volumes=True)
    assert host.world.things == {}
    plan = host.plan(wanted)
    assert (todo(plan), plan.refusals) == ({"Volume/data": "create"}, ())

    def fail(step):
        raise ApplyError(step)

    host.world.before_step = lambda step: fail(step) if step.startswith("create") else None
    assert host.apply(wanted).failed
    host.world.before_step = lambda step: None
    host.apply(wanted)
    assert todo(host.plan(wanted)) == {}
    (made,) = host.world.things
    assert made != lost
    del host.world.things[made]
    assert "its data is lost" in host.plan(wanted).refusals[0]


def test_a_volume_that_a_failed_delete_left_and_that_is_lost_later_is_protected(tmp_path):
    host = Host(tmp_path)
    wanted = b.desired(b.volume())
    host.apply(wanted)

    def refuse(step):
        if step.startswith("delete"):
            raise ApplyError("somebody has it")

    host.world.before_step = refuse
    assert host.delete(delete_volumes=True).failed
    host.world.before_step = lambda step: None
    host.apply(wanted)
    host.world.things.clear()
    assert "its data is lost" in host.plan(wanted).refusals[0]
