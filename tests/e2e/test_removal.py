"""Containers that do not end, and containers that are removed while they begin."""

import json
from pathlib import Path

import pytest

from runtime.cgroup import Cgroup, Hierarchy
from runtime.root import Root
from runtime.spec import Resources
from runtime.supervisor.client import Supervisor
from tests.support.cli import Bayplan
from tests.support.drift import container, tag_of
from tests.support.manifests import HEAD
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
