"""Plans of what goes, and after what."""

from provider.model import specs
from provider.model.plan import Verb
from tests.support import builders as b
from tests.support.planned import project


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
