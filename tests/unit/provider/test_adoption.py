"""A volume whose ledger entry is lost keeps its data: it is found by its mark, and adopted."""

import dataclasses

import pytest

from provider.errors import ApplyError, RefusedError
from provider.model import specs
from provider.model.ids import Kind
from provider.planning.decide import ADOPTED
from tests.support import builders as b
from tests.support.memory import todo

MOUNT = (specs.VolumeMount("/data", volume="data"),)


def project(name="data", **more):
    use = b.container(spec=b.container_spec(volumes=(specs.VolumeMount("/data", volume=name),)))
    return b.desired(b.image(), b.network(), b.volume(name, **more), use)


def volumes(host):
    return {i for i, thing in host.world.things.items() if thing.kind is Kind.VOLUME}


def lose_entry(host):
    (path,) = host.state.glob("projects/*/resources/Volume_data_*.json")
    path.unlink()


@pytest.fixture
def lost(host):
    """A project that was applied, and its volume's entry then lost; the volume's id."""
    host.apply(project())
    lose_entry(host)
    (volume,) = volumes(host)
    return volume


def test_it_is_adopted_and_its_users_are_left_alone(host, lost):
    plan = host.plan(project())
    assert todo(plan) == {"Volume/data": "update live"}
    assert plan.pending[0].reason == ADOPTED
    assert not plan.kept
    host.apply(project())
    assert volumes(host) == {lost}
    assert host.plan(project()).is_empty


def test_an_adoption_that_failed_is_one_still(host, lost):
    def refuse(step):
        if step == "change Volume/data":
            raise ApplyError("disk full")

    host.world.before_step = refuse
    assert host.apply(project()).failed
    host.world.before_step = lambda step: None
    assert todo(host.plan(project())) == {"Volume/data": "update live"}
    host.apply(project())
    assert volumes(host) == {lost}
    assert host.plan(project()).is_empty


def test_it_is_found_by_its_former_name_too(host, lost):
    wanted = project("store", former_name="data")
    assert todo(host.plan(wanted))["Volume/store"] == "update live"
    host.apply(wanted)
    assert volumes(host) == {lost}
    assert host.plan(wanted).is_empty


def test_one_of_two_is_nobodys_guess(host, lost):
    host.world.things["second"] = dataclasses.replace(host.world.things[lost])
    with pytest.raises(RefusedError, match=rf"2 volumes say that they are it: {lost}, second; "):
        host.apply(project())
    assert volumes(host) == {lost, "second"}
    assert not host.apply(project(), accept_data_loss=True).failed
    assert volumes(host) > {lost, "second"}


def test_what_nobody_wants_is_kept(host, lost):
    rest = b.desired(b.image(), b.network())
    plan = host.plan(rest)
    assert [line.split(":")[0] for line in plan.kept] == ["Volume/data"]
    host.apply(rest)
    assert volumes(host) == {lost}
    assert not host.delete(delete_volumes=True).failed
    assert volumes(host) == set()
