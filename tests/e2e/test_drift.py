"""Whatever is changed behind our back is seen by plan, in one line, and mended by apply."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.manifests import HEAD, document, sleeper

pytestmark = pytest.mark.e2e

MANIFEST = (
    HEAD
    + document("Network", "net", "{}")
    + document("Volume", "data", "{}")
    + sleeper(
        "one",
        "networks: [net], restart: 'no', resources: {memory: 32Mi, pids: 50, cpus: 0.5}, "
        "volumes: [{volume: data, target: /data}]",
        "publish: [{port: 18090, targetPort: 80}]",
    )
    + sleeper("bystander", "networks: [net]")
)


@pytest.fixture
def site(bayplan):
    bayplan.apply(MANIFEST)
    yield bayplan
    bayplan.delete("test")


def container(bayplan, name="test.one"):
    (found,) = [c for c in bayplan.json("ps", "-a") if c["name"] == name]
    return found


def cgroup_file(container_id: str, controller: str, name: str) -> Path:
    (found,) = Path("/sys/fs/cgroup").glob(f"{controller}/bayplan-*/{container_id}/{name}")
    return found


def nft(*words: str) -> str:
    return subprocess.run(["nft", *words], capture_output=True, text=True, check=True).stdout


def table_of(world: Path) -> str:
    import hashlib

    return f"bayplan_{hashlib.sha256(bytes(world)).hexdigest()[:4]}"


def link_of(world: Path, kind: str) -> str:
    import hashlib
    import socket

    prefix = f"bp{hashlib.sha256(bytes(world)).hexdigest()[:4]}{kind}"
    return sorted(name for _, name in socket.if_nameindex() if name.startswith(prefix))[0]


def kill_container(bayplan, world):
    pid = container(bayplan)["pid"]
    pidfd = os.pidfd_open(pid)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    import select

    select.select([pidfd], [], [], 10)
    os.close(pidfd)
    deadline = time.monotonic() + 10
    while container(bayplan)["state"] == "running" and time.monotonic() < deadline:
        pass


def edit_memory(bayplan, world):
    cgroup_file(container(bayplan)["id"], "memory", "memory.limit_in_bytes").write_text("-1")


def edit_pids(bayplan, world):
    cgroup_file(container(bayplan)["id"], "pids", "pids.max").write_text("max")


def edit_cpus(bayplan, world):
    cgroup_file(container(bayplan)["id"], "cpu", "cpu.cfs_quota_us").write_text("-1")


def remove_veth(bayplan, world):
    subprocess.run(["ip", "link", "del", link_of(world, "v")], check=True)


def down_veth(bayplan, world):
    subprocess.run(["ip", "link", "set", link_of(world, "v"), "down"], check=True)


def delete_bridge(bayplan, world):
    subprocess.run(["ip", "link", "del", link_of(world, "n")], check=True)


def flush_table(bayplan, world):
    nft("flush", "table", "inet", table_of(world))


def delete_table(bayplan, world):
    nft("delete", "table", "inet", table_of(world))


def unmount_inside(bayplan, world):
    pid = str(container(bayplan)["pid"])
    subprocess.run(["nsenter", "-t", pid, "-m", "umount", "-l", "/data"], check=True)


DRIFTS = [
    kill_container,
    edit_memory,
    edit_pids,
    edit_cpus,
    remove_veth,
    down_veth,
    delete_bridge,
    flush_table,
    delete_table,
    unmount_inside,
]


@pytest.mark.parametrize("spoil", DRIFTS, ids=lambda f: f.__name__)
def test_drift_is_one_line_and_one_apply_mends_it(site, world, spoil):
    other = container(site, "test.bystander")
    spoil(site, world)
    plan = site.plan(MANIFEST)
    causes = [d["cause"] for r in plan["resources"] for d in r["diff"] if d.get("cause")]
    assert len(causes) == 1, plan["resources"]
    site.apply(MANIFEST)
    again = site.plan(MANIFEST)
    assert {r["action"] for r in again["resources"]} == {"noop"}
    assert container(site, "test.bystander")["pid"] == other["pid"]
    assert site("doctor").stdout == "all is well\n"


def test_a_lost_volume_is_data_loss_and_refused(site, world):
    (volume,) = (world / "lib" / "volumes").iterdir()
    shutil.rmtree(volume)
    plan = site.plan(MANIFEST, code=1)
    assert any(r["consequence"] == "dataLoss" for r in plan["resources"])
    assert site("apply", "-f", "-", stdin=MANIFEST, code=1).stderr.count("accept-data-loss") >= 1
    assert not volume.exists()
    site.apply(MANIFEST, "--accept-data-loss")
    site("exec", "test.one", "sh", "-c", "echo new > /data/file")
    assert {r["action"] for r in site.plan(MANIFEST)["resources"]} == {"noop"}


def test_a_killed_supervisor_is_no_drift(site, world):
    before = container(site)
    for pid in supervisors(world):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert {r["action"] for r in site.plan(MANIFEST)["resources"]} == {"noop"}
    assert container(site)["pid"] == before["pid"]


def test_with_keeper_and_supervisor_gone_an_apply_brings_them_back(site, world):
    before = container(site)
    for pid in supervisors(world):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    while supervisors(world):
        for pid in supervisors(world):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert any(f["kind"] == "supervisor" for f in site.json("doctor", code=1)["findings"])
    assert site.apply(MANIFEST)["changed"] is False
    assert site("exec", "test.one", "echo", "hello").stdout == "hello\n"
    assert container(site)["pid"] == before["pid"]
    assert site("doctor").stdout == "all is well\n"


def supervisors(world: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes()
                if b"runtime.supervisor" in command and str(world).encode() in command:
                    found.append(int(entry.name))
    return found
