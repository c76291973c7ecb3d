"""``--systemd-cgroup``: containers in scopes, on a host that systemd runs."""

import json
import os
import subprocess

import pytest

from runtime.cgroup import systemd
from runtime.cgroup.group import Cgroup
from runtime.cgroup.scope import scope_of
from runtime.cli import group as cgroups
from runtime.cli import scope as scopes
from runtime.errors import ContainerError
from runtime.spec import Cpu, Resources
from tests.support.bundle import ID, bundle_in
from tests.support.host import cannot

pytestmark = pytest.mark.kernel

SYSTEMD = "--systemd-cgroup"
QUIET = {
    "capture_output": False,
    **dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL),
}


@pytest.fixture
def bundle(world):
    if not os.path.isdir("/run/systemd/system"):
        cannot("start scopes: it is not run by systemd")
    with bundle_in(world) as made:
        made.unit = f"{made.cgroup}.scope"
        prefix, _, name = made.cgroup.rpartition("-")
        made.config["linux"]["cgroupsPath"] = f"bayplan-test.slice:{prefix}:{name}"
        made.cgroup = f"bayplan.slice/bayplan-test.slice/{made.unit}"
        made.sh("sleep 1000")
        yield made
        # Without the option, too: a container knows how it was made.
        made.call("delete", "--force", ID)
        assert _property(made, "LoadState") == "not-found"
    for unit in ("bayplan-test.slice", "bayplan.slice"):
        subprocess.run(["systemctl", "stop", unit], check=True)


def _property(bundle, name: str) -> str:
    command = ["systemctl", "show", "--property", name, "--value", bundle.unit]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_a_scope_has_the_container_and_its_limits_from_create_to_delete(bundle):
    bundle.config["linux"]["resources"] = {
        "memory": {"limit": 64 << 20},
        "cpu": {"shares": 512, "quota": 50000, "period": 100000},
        "pids": {"limit": 33},
        "unified": {"cpu.weight": "1234"},
    }
    bundle.config["annotations"] = {"org.systemd.property.TimeoutStopSec": "7"}
    bundle.do(SYSTEMD, "run", "--detach", ID, **QUIET)
    with open(f"/proc/{bundle.state()['pid']}/cgroup") as file:
        assert f"/{bundle.cgroup}\n" in file.read()
    assert bundle.state()["systemd-scope"] == bundle.unit
    assert len(json.loads(bundle.do("ps", "--format", "json", ID))) == 1
    shown = {
        "ActiveState": "active",
        "Slice": "bayplan-test.slice",
        "Delegate": "yes",
        "MemoryMax": str(64 << 20),
        "TasksMax": "33",
        "CPUQuotaPerSecUSec": "500ms",
        "TimeoutStopUSec": "7s",
    }
    assert {name: _property(bundle, name) for name in shown} == shown
    assert bundle.limit("pids.max") == "33"
    bundle.do("update", "--memory", str(32 << 20), "--pids-limit", "44", ID)
    assert (_property(bundle, "MemoryMax"), _property(bundle, "TasksMax")) == (
        str(32 << 20),
        "44",
    )
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    assert bundle.limit("memory.max") == str(32 << 20)
    assert bundle.limit("cpu.weight") == "1234"
    bundle.do("update", "--cpu-share", "4321", ID)
    assert (bundle.limit("cpu.weight"), _property(bundle, "CPUWeight")) == ("165", "165")


def test_a_scope_goes_with_its_container_even_if_the_status_is_damaged(bundle):
    bundle.do(SYSTEMD, "run", "--detach", ID, **QUIET)
    (bundle.root / ID / "status").write_bytes(b"")
    bundle.do("delete", "--force", ID)
    assert bundle.groups() == []


def test_a_container_that_ended_leaves_its_scope_to_the_next_of_that_name(bundle):
    bundle.do(SYSTEMD, "run", "--detach", ID, **QUIET)
    bundle.do("kill", ID, "KILL")
    bundle.wait_stopped()
    other = ("--root", str(bundle.path / "other"))
    try:
        bundle.do(*other, SYSTEMD, "run", "--detach", ID, **QUIET)
        third = ("--root", str(bundle.path / "third"))
        assert "exists already" in bundle.fails(*third, SYSTEMD, "create", ID)
        bundle.do("delete", ID)
        assert json.loads(bundle.do(*other, "state", ID))["status"] == "running"
        bundle.do(*other, "pause", ID)
        assert json.loads(bundle.do(*other, "state", ID))["status"] == "paused"
    finally:
        bundle.do(*other, "delete", "--force", ID)


def test_what_fails_leaves_no_scope(bundle):
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "exit 3"]}
    bundle.config["hooks"] = {"createRuntime": [hook]}
    assert "failed with 3" in bundle.fails(SYSTEMD, "create", ID)
    assert _property(bundle, "LoadState") == "not-found"
    del bundle.config["hooks"]
    bundle.config["annotations"] = {"org.systemd.property.NoSuchThing": "true"}
    assert "NoSuchThing" in bundle.fails(SYSTEMD, "create", ID)
    bundle.config["annotations"] = {}
    bundle.config["linux"]["resources"] = {"memory": {"limit": 4096, "swap": 8192}}
    bundle.config["linux"]["cgroupsPath"] = "/not/a/scope"
    assert "SLICE:PREFIX:NAME" in bundle.fails(SYSTEMD, "create", ID)
    assert _property(bundle, "LoadState") == "not-found"
    assert bundle.groups() == []


def test_a_scope_that_fails_leaves_none_of_the_groups_systemd_knows_nothing_of(world, monkeypatch):
    """On cgroup v1, where there are such. In place of systemd is one that has a single group."""
    scope = scope_of(f"-.slice:bayplan:{world.name}", ID)
    where = cgroups.hierarchy()
    group = Cgroup.of_caller(where, scope.group)
    own = f"{next(iter((*where.named, *where.folders())))}/{scope.group}"

    def start(unit, properties):
        (pid,) = dict(properties)["PIDs"][1]
        os.mkdir(own)
        with open(f"{own}/cgroup.procs", "w") as file:
            file.write(str(pid))

    def stop(unit):
        group.kill()
        os.rmdir(own)
        raise ContainerError("the job failed")

    monkeypatch.setattr(systemd, "start_scope", start)
    monkeypatch.setattr(systemd, "stop_unit", stop)
    limits = Resources(cpu=Cpu(period=1))
    making = scopes.started(scope, where, ID, limits, {})
    with pytest.raises(ContainerError, match=r"cpu\.") as caught, making:
        pass
    assert caught.value.__notes__ == ["clearing up: the job failed"]
    assert not group.exists()


def test_without_systemd_that_is_said(world):
    if os.path.isdir("/run/systemd/system"):
        cannot("do without systemd: it runs this host")
    with bundle_in(world) as made:
        made.config["linux"]["cgroupsPath"] = "system.slice:bayplan:x"
        assert "not run by systemd" in made.fails(SYSTEMD, "create", ID)
