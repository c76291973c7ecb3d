"""Containers that do not end, and containers that are removed while they begin."""

import json
from contextlib import suppress
from pathlib import Path

import pytest

from runtime.cgroup.group import Cgroup
from runtime.cgroup.hierarchy import Hierarchy
from runtime.network.hostlock import host_lock
from runtime.root import Root
from runtime.spec import Resources
from runtime.supervisor.client import Supervisor
from tests.support.cli import Bayplan
from tests.support.drift import container, tag_of
from tests.support.manifests import HEAD, document, sleeper
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e


@pytest.fixture
def box(bayplan: Bayplan):
    bayplan.apply(HEAD)
    yield
    bayplan.delete("test")
    bayplan.delete("test")


def cgroup(world: Path, container_id: str) -> Cgroup:
    return Cgroup(Hierarchy.detect(), f"bayplan-{tag_of(world)}/{container_id}")


def status(world: Path, container_id: str) -> dict:
    path = world / "run/containers" / container_id / "status.json"
    return json.loads(path.read_text()) if path.exists() else {}


def test_one_that_is_removed_while_it_is_started_is_gone(bayplan, box, world):
    bayplan("run", "-d", "--restart", "always", "--name", "p", "test/box", "sleep", "98768")
    bayplan("stop", "p")
    found = container(bayplan, "p")["id"]
    # Its process joins this and gets no further.
    group = cgroup(world, found)
    group.create(Resources())
    group.freeze()
    start = bayplan.start("start", "p")
    wait_until(lambda: status(world, found).get("pid"))
    assert status(world, found)["state"] == "created"
    bayplan("rm", "p")
    # It may have got there just before.
    start.communicate(timeout=30)
    assert start.returncode in (0, 1)
    assert bayplan.json("ps", "-a") == []
    assert not group.exists()
    assert Supervisor(Root.at(world)).list() == []
    bayplan("doctor")


def test_who_stops_what_not_even_sigkill_ends_is_told(bayplan, box, world):
    bayplan("run", "-d", "--name", "p", "test/box", "sleep", "98768")
    found = container(bayplan, "p")
    group = cgroup(world, found["id"])
    stop = bayplan.start("stop", "-t", "1s", "p")
    wait_until(lambda: status(world, found["id"])["stopRequested"])
    # As a file system that does not answer would hold it; after the stop has thawed it.
    group.freeze()
    _, said = stop.communicate(timeout=60)
    assert stop.returncode == 1
    assert f"its process {found['pid']} survives SIGKILL" in said
    assert "p does not end" in said
    bayplan("stop", "p")
    assert container(bayplan, "p")["state"] == "exited"
    bayplan("rm", "p")


def test_one_that_is_started_while_it_is_removed_is_gone_too(bayplan, box, world):
    words = ("--network", "none", "--restart", "always", "--name", "p", "test/box")
    bayplan("run", "-d", *words, "sleep", "98768")
    bayplan("stop", "p")
    root = Root.at(world)
    with host_lock(root, "test"):
        rm = bayplan.start("rm", "p")
        # It has seen that p has ended, and waits for the lock.
        wait_until(lambda: str(root.state / "host.lock") in open_files(rm.pid))
        bayplan("start", "p")
        pid = container(bayplan, "p")["pid"]
    rm.communicate(timeout=60)
    assert rm.returncode == 0
    assert bayplan.json("ps", "-a") == []
    assert Supervisor(root).list() == []
    assert not Path(f"/proc/{pid}").exists()


def open_files(pid: int) -> set[str]:
    found = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add(str(fd.readlink()))
    return found


def test_what_a_stopped_container_has_goes_when_that_is_made_anew(bayplan: Bayplan):
    """And not before its old one is gone, which serves until the new one has proven itself."""

    def site(container: str = "", spec: str = "", *things: str) -> str:
        text = HEAD + "".join(things) + sleeper("one", container, spec)
        return text.replace("healthyFor: 0s", "healthyFor: 500ms")

    things = (document("Network", "old", "{}"), document("Volume", "data", "{}"))
    wide = "networks: [old], volumes: [{volume: data, target: /data, readOnly: true}]"
    bayplan.apply(site(wide, "", *things))
    for _ in range(2):
        report = bayplan.apply(site("", "state: stopped"), "--delete-volumes")
        kept = [text.partition(":")[0] for text in report["kept"]]
        assert kept == ["Volume/data", "Network/old"]
    report = bayplan.apply(site(), "--delete-volumes")
    assert {r["id"]: r["action"] for r in report["resources"] if r["changed"]} == {
        "Container/one": "update",
        "Network/old": "delete",
        "Volume/data": "delete",
    }
    # One that runs, as well.
    bayplan.apply(site(wide, "", *things))
    bayplan.apply(site(), "--delete-volumes")
    bayplan.delete("test")
    bayplan.delete("test")


def test_one_to_be_removed_at_its_end_is_gone_when_it_is_stopped(bayplan: Bayplan):
    bayplan.apply(HEAD)
    for _ in range(3):
        bayplan("run", "-d", "--rm", "--name", "x", "--network", "none", "test/box", "sleep", "99")
        refused = bayplan("restart", "x", code=1).stderr
        assert "it was run with --rm, and goes when it ends" in refused
        bayplan("update", "--restart", "always", "x", code=1)
        bayplan("stop", "-t", "0", "x")
        assert bayplan.json("ps", "-a") == []
    bayplan.delete("test")


def test_one_to_be_removed_does_not_run_again_before_it_is_gone(bayplan: Bayplan):
    bayplan.apply(HEAD)
    ends = ("test/box", "sh", "-c", "sleep 0.2; exit 4")
    for _ in range(3):
        bayplan("run", "-d", "--rm", "--name", "x", "--network", "none", *ends)
        assert bayplan("wait", "x", code=4).stdout == "4\n"
        for left in bayplan.json("ps", "-a"):  # it may be gone
            assert (left["state"], left["exitCode"]) == ("exited", 4)
        said = bayplan("start", "x", code=1).stderr
        assert "it was run with --rm, and goes now" in said or "no container x" in said
        wait_until(lambda: bayplan.json("ps", "-a") == [])
    bayplan.delete("test")


def test_a_paused_one_dies_by_a_kill(bayplan: Bayplan):
    """Version 1 of cgroups keeps even SIGKILL from what is frozen."""
    bayplan.apply(HEAD)
    bayplan("run", "-d", "--name", "x", "--network", "none", "test/box", "sleep", "99")
    bayplan("pause", "x")
    bayplan("kill", "-s", "HUP", "x")
    assert bayplan.json("ps", "-a")[0]["paused"]
    bayplan("kill", "x")
    assert bayplan("wait", "x", code=137).stdout == "137\n"
    bayplan("rm", "x")
    bayplan.delete("test")


def test_one_that_was_unhealthy_when_it_was_stopped_is_as_wanted(bayplan: Bayplan):
    sick = "health: {exec: {command: ['false']}, interval: 100ms, retries: 1, onUnhealthy: none}"
    bayplan.apply(HEAD + sleeper("one", sick), code=1)
    assert "unhealthy" in bayplan("status", "-p", "test", code=1).stdout
    bayplan.apply(HEAD + sleeper("one", sick, "state: stopped"))
    assert "unhealthy" not in bayplan("status", "-p", "test").stdout
    bayplan.delete("test")
    bayplan.delete("test")
