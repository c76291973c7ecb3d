import pytest

from provider.errors import RefusedError
from provider.model import specs
from provider.model.ids import Kind
from tests.support import builders as b
from tests.support.memory import todo

MANY = [b.config(f"c{n}") for n in range(8)]


def test_an_empty_input_removes_nothing_by_mistake(host):
    host.apply(b.desired(b.config()))
    plan = host.plan(b.desired())
    assert "--allow-empty" in plan.refusals[0]
    with pytest.raises(RefusedError, match="the input is empty"):
        host.apply(b.desired())
    host.apply(b.desired(), allow_empty=True)
    assert host.marks() == []


def test_an_empty_input_on_an_empty_host_is_fine(host):
    assert host.plan(b.desired()).refusals == ()


@pytest.mark.parametrize(("kept", "refused"), [(4, False), (3, True), (5, False)])
def test_more_than_half_is_pruned_only_when_allowed(host, kept, refused):
    host.apply(b.desired(*MANY))
    plan = host.plan(b.desired(*MANY[:kept]))
    assert bool(plan.refusals) is refused
    assert host.plan(b.desired(*MANY[:kept]), allow_prune=True).refusals == ()


def test_three_may_always_go(host):
    host.apply(b.desired(*MANY[:4]))
    assert host.plan(b.desired(MANY[0])).refusals == ()


def test_scaling_down_is_not_pruning(host):
    host.apply(b.desired(b.image(), b.network(), b.service(replicas=9)))
    assert host.plan(b.desired(b.image(), b.network(), b.service(replicas=1))).refusals == ()


@pytest.mark.parametrize("options", [{"partial": True}, {"hosts": frozenset({"local"})}])
def test_a_partial_set_never_prunes(host, options):
    host.apply(b.desired(*MANY))
    host.world.things["stray"] = host.thing(b.iid(Kind.CONFIG, "c0"))
    plan = host.plan(b.desired(b.config("new")), **options)
    assert todo(plan) == {"Config/new": "create"}
    assert plan.refusals == ()


def test_a_selection_names_whom_it_leaves_behind(host):
    def wanted(**network):
        return b.desired(b.image(), b.network(**network), b.service(replicas=2))

    host.apply(wanted())
    only = {"selected": frozenset({b.rid(Kind.NETWORK, "front")})}
    assert host.plan(wanted(), **only).warnings == ()
    changed = wanted(spec=specs.Network(subnet="10.77.0.0/24"))
    assert host.plan(changed).warnings == ()
    plan = host.plan(changed, **only)
    assert todo(plan) == {"Network/front": "update replace"}
    assert plan.warnings == (
        "Service/web uses Network/front, which is changed, but is not part of this run;"
        " the next apply of all brings it along",
    )
    host.apply(changed, **only)
    assert "Service/web[0]" in todo(host.plan(changed))


def test_a_selection_leaves_the_rest_alone(host):
    wanted = b.desired(b.image(), b.network(), b.container("one"), b.container("two"))
    host.apply(b.desired(b.image(), b.network()))
    plan = host.plan(wanted, selected=frozenset({b.rid(Kind.CONTAINER, "one")}))
    assert todo(plan) == {"Container/one": "create"}


def test_a_partial_set_uses_what_is_recorded(host):
    spec = b.container_spec(configs=(specs.FileMount("site", "/srv"),))
    whole = b.desired(b.image(), b.network(), b.config(), b.container(spec=spec))
    host.apply(whole)
    assert host.plan(b.desired(b.container(spec=spec)), partial=True).is_empty


def test_resources_that_are_never_pruned_are_kept(host):
    host.apply(b.desired(b.config("a", prune=False), b.config("b")))
    plan = host.plan(b.desired(b.config("b")))
    assert plan.is_empty
    assert plan.kept == ("Config/a: not in the manifests, but never pruned",)
    host.apply(b.desired(b.config("b"), b.config("c")))
    assert host.plan(b.desired(b.config("b"), prune=False)).is_empty


def test_volumes_keep_their_data(host):
    host.apply(b.desired(b.volume(), b.config()))
    plan = host.plan(b.desired(b.config()))
    assert plan.is_empty
    assert "--delete-volumes" in plan.kept[0]
    assert todo(host.plan(b.desired(b.config()), delete_volumes=True)) == {"Volume/data": "delete"}


def test_delete_keeps_volumes_and_says_so(host):
    host.apply(b.desired(b.image(), b.network(), b.volume(), b.container(), b.service()))
    report = host.delete()
    assert host.marks() == ["Volume/data"]
    assert report.kept == ("Volume/data: its data is kept unless --delete-volumes is said",)
    assert not host.delete().changed
    assert host.delete(delete_volumes=True).changed
    assert host.marks() == []
    assert list((host.state / "projects" / b.PROJECT / "resources").iterdir()) == []


def test_delete_removes_strays_too(host):
    host.apply(b.desired(b.config()))
    host.world.things["stray"] = host.thing(b.iid(Kind.CONFIG, "site"))
    host.delete()
    assert host.marks() == []


def test_deleting_what_others_use_is_refused(host):
    host.apply(b.desired(b.image(), b.network(), b.container()))
    with pytest.raises(RefusedError, match="Network/front is still used by Container/app"):
        host.delete(selected=frozenset({b.rid(Kind.NETWORK, "front")}))
    host.delete(selected=frozenset({b.rid(Kind.CONTAINER, "app")}))
    assert host.marks() == ["Image/base", "Network/front"]


def test_protected_resources_are_neither_removed_nor_replaced(host):
    host.apply(b.desired(b.image(), b.network(), b.container(prevent_destroy=True)))
    gone = host.plan(b.desired(b.image(), b.network()))
    assert gone.refusals == ("Container/app has preventDestroy and would be removed",)
    anew = b.container(spec=b.container_spec(user="me"), prevent_destroy=True)
    plan = host.plan(b.desired(b.image(), b.network(), anew))
    assert plan.refusals == ("Container/app has preventDestroy and would be made anew",)
    lifted = b.container(spec=b.container_spec(user="me"))
    assert host.plan(b.desired(b.image(), b.network(), lifted)).refusals == ()
    with pytest.raises(RefusedError, match="preventDestroy"):
        host.delete()


def test_lost_data_is_never_replaced_silently(host):
    mount = (specs.VolumeMount("/data", volume="data"),)
    wanted = b.desired(
        b.image(), b.network(), b.volume(), b.container(spec=b.container_spec(volumes=mount))
    )
    host.apply(wanted)
    lost = next(i for i, t in host.world.things.items() if t.kind is Kind.VOLUME)
    del host.world.things[lost]
    plan = host.plan(wanted)
    assert todo(plan) == {"Volume/data": "update dataLoss", "Container/app": "update replace"}
    assert "--accept-data-loss" in plan.refusals[0]
    with pytest.raises(RefusedError, match="Volume/data is gone"):
        host.apply(wanted)
    assert not host.apply(wanted, accept_data_loss=True).failed
    assert host.plan(wanted).is_empty


def test_preflight_refuses_before_anything_is_touched(host):
    host.apply(b.desired(b.image(), b.network()))
    other = b.container(publish=(specs.Publish(80, 80),))
    thing = host.thing(b.iid(Kind.NETWORK, "front"))
    theirs = type(thing)(
        Kind.CONTAINER,
        b.iid(Kind.CONTAINER, "x").__class__(b.rid(Kind.CONTAINER, "x", "else")),
        {"publish": [{"ip": "0.0.0.0", "port": 80, "protocol": "tcp"}]},
    )
    host.world.things["theirs"] = theirs
    plan = host.plan(b.desired(b.image(), b.network(), other))
    assert plan.refusals == ("Container/app: port 80 is taken by project else",)
