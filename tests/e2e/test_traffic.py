"""Published traffic goes to the replicas that are up, and comes back to those that are again."""

import time
import urllib.request

import pytest

from runtime.container import traffic
from runtime.root import Root
from runtime.supervisor.client import Supervisor
from tests.support.drift import container, kill, supervisors
from tests.support.load import Visitor
from tests.support.manifests import HEAD, document, sleeper

pytestmark = pytest.mark.e2e

PORT = 18161
PAGE = (
    "mkdir -p /www && hostname > /www/index.html && touch /www/ok && "
    "exec busybox httpd -f -p 8080 -h /www"
)
HEALTH = "health: {http: {port: 8080, path: /ok}, interval: 100ms, onUnhealthy: none}, "


def service(health: str = HEALTH, spec: str = "") -> str:
    return (
        HEAD
        + document("Network", "front", "{}")
        + document(
            "Service",
            "web",
            f"{{replicas: 2, publish: [{{port: {PORT}, targetPort: 8080}}], {spec}container: {{"
            f"image: box, command: [busybox, sh, -c, '{PAGE}'], stopSignal: SIGKILL, "
            f"{health}networks: [front]}}}}",
        )
    )


def answering() -> set[str]:
    """Return who answers six times in a row, each asked by a connection of its own."""
    found = set()
    for _ in range(6):
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/", timeout=5) as answer:
            found.add(answer.read().decode().strip())
    return found


def await_answers(*replicas: str) -> None:
    """Wait until these answer, all of them and nobody else."""
    deadline = time.monotonic() + 20
    found: object = None
    while found != set(replicas):
        assert time.monotonic() < deadline, f"{found} instead of {replicas}"
        try:
            found = answering()
        except OSError as error:
            found = error


def make_well(bayplan, name: str, *, well: bool) -> None:
    bayplan("exec", name, "busybox", *(("touch", "/www/ok") if well else ("rm", "/www/ok")))


@pytest.fixture
def web(bayplan):
    manifest = service()
    bayplan.apply(manifest)
    await_answers("web-0", "web-1")
    yield manifest
    bayplan.apply(manifest)
    assert {r["action"] for r in bayplan.plan(manifest)["resources"]} == {"noop"}
    bayplan.delete("test")
    bayplan.delete("test")


def test_nothing_new_goes_to_an_unhealthy_replica_until_it_is_healthy(bayplan, web):
    make_well(bayplan, "test.web.0", well=False)
    await_answers("web-1")
    with Visitor(PORT) as visitor:
        make_well(bayplan, "test.web.0", well=True)
        await_answers("web-0", "web-1")
    assert visitor.failures == []


def test_if_all_are_down_all_are_tried(bayplan, web):
    make_well(bayplan, "test.web.0", well=False)
    await_answers("web-1")
    make_well(bayplan, "test.web.1", well=False)
    await_answers("web-0", "web-1")
    make_well(bayplan, "test.web.1", well=True)
    await_answers("web-1")
    make_well(bayplan, "test.web.0", well=True)


def test_it_is_remembered_by_the_next_supervisor(bayplan, web, world):
    make_well(bayplan, "test.web.0", well=False)
    await_answers("web-1")
    while pids := supervisors(world):
        for pid in pids:
            kill(pid)
    assert answering() == {"web-1"}
    make_well(bayplan, "test.web.0", well=True)
    await_answers("web-0", "web-1")


@pytest.mark.parametrize("health", [HEALTH, ""], ids=["health check", "none"])
def test_a_replica_that_ended_is_left_out_until_it_is_back(bayplan, health):
    manifest = service(health)
    bayplan.apply(manifest)
    await_answers("web-0", "web-1")
    kill(container(bayplan, "test.web.0")["pid"])
    await_answers("web-0", "web-1")
    assert container(bayplan, "test.web.0")["restarts"] == 1
    assert {r["action"] for r in bayplan.plan(manifest)["resources"]} == {"noop"}
    bayplan.delete("test")


def test_no_visitor_notices_that_a_replica_is_stopped_started_restarted_removed(bayplan, web):
    with Visitor(PORT) as visitor:
        bayplan("stop", "--override", "test.web.0")
        assert answering() == {"web-1"}
        bayplan("start", "--override", "test.web.0")
        await_answers("web-0", "web-1")
        bayplan("restart", "--override", "test.web.1")
        await_answers("web-0", "web-1")
        bayplan("rm", "-f", "--override", "test.web.1")
        assert answering() == {"web-0"}
        pending = [r for r in bayplan.plan(web)["resources"] if r["action"] != "noop"]
        assert {r["id"]: [d["path"] for d in r["diff"]] for r in pending} == {
            "Service/web[1]": ["kernel.container"],
            "Service/web": ["backends[1].id"],
        }
        bayplan.apply(web)
        await_answers("web-0", "web-1")
    assert visitor.failures == []


def test_who_follows_meanwhile_does_not_undo_the_beginning_of_a_stop(bayplan, web, world):
    """As the supervisor may, for another replica, between a stop's first step and its second."""
    root = Root.at(world)
    going = container(bayplan, "test.web.0")["id"]
    with traffic.withdrawn(root, going):
        traffic.follow(root)
        assert answering() == {"web-1"}
    # Nothing was stopped in the end.
    await_answers("web-0", "web-1")


def test_a_supervisor_killed_at_the_beginning_of_a_stop_loses_sight_of_nobody(bayplan, web, world):
    root = Root.at(world)
    with traffic.withdrawn(root, container(bayplan, "test.web.0")["id"]):
        kill(Supervisor(root).ping()["pid"])
    await_answers("web-0", "web-1")
    make_well(bayplan, "test.web.0", well=False)
    await_answers("web-1")
    make_well(bayplan, "test.web.0", well=True)
    await_answers("web-0", "web-1")


def test_no_visitor_notices_that_apply_restarts_the_replicas(bayplan, web):
    both = service(spec="dependsOn: [{kind: Container, name: base, effect: restart}], ")
    bayplan.apply(both + sleeper("base"))
    started = {c["name"]: c["pid"] for c in bayplan.json("ps")}
    with Visitor(PORT) as visitor:
        bayplan.apply(both + sleeper("base", "env: {A: b}"))
    assert visitor.failures == []
    assert not started.items() & {c["name"]: c["pid"] for c in bayplan.json("ps")}.items()
