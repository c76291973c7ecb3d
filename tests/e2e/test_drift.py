"""Whatever is changed behind our back is seen by plan, in one line, and mended by apply.

One world for all of them: each test begins with an apply, and leaves what it has mended.
"""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.cli import Bayplan
from tests.support.drift import container, kill, nft, supervisors, table_of
from tests.support.manifests import HEAD, document, sleeper
from tests.support.spoil import (
    DRIFTS,
    chmod_volume,
    chown_volume,
    delete_bridge,
    delete_table,
    edit_cpus,
    freeze,
    kill_container,
    one,
    remove_map_element,
    remove_veth,
    volume_folder,
)
from tests.support.waiting import wait_until
from tests.support.worlds import fresh_world

pytestmark = pytest.mark.e2e

MANIFEST = (
    HEAD
    + document("Network", "net", "{}")
    + document("Volume", "data", "{uid: 5, gid: 6, mode: '2751'}")
    + document("Volume", "more", "{}")
    + sleeper(
        "one",
        "networks: [net], restart: 'no', resources: {memory: 32Mi, pids: 50, cpus: 0.5}, "
        "volumes: [{volume: data, target: /data}, {volume: more, target: /more, readOnly: true}], "
        "hostname: first, sysctls: {net.ipv4.ip_default_ttl: '77', kernel.shmmni: '1000'}, "
        "readOnly: true",
        "publish: [{port: 18090, targetPort: 80}]",
    )
    + sleeper("bystander", "networks: [net]")
)


@pytest.fixture(scope="module")
def world():
    with fresh_world() as folder:
        yield folder


@pytest.fixture(scope="module")
def bayplan(world):
    bayplan = Bayplan(world)
    yield bayplan
    bayplan.delete("test")


@pytest.fixture
def site(bayplan):
    bayplan.apply(MANIFEST)
    return bayplan


@pytest.mark.parametrize("spoil", DRIFTS, ids=lambda f: f.__name__)
def test_drift_is_one_line_and_one_apply_mends_it(site, world, spoil):
    other = container(site, "test.bystander")
    spoil(site, world)
    plan = site.plan(MANIFEST)
    (line,) = [line for resource in plan["resources"] for line in resource["diff"]]
    for words in DRIFTS[spoil].split("*"):
        assert words in line["cause"]
    assert site.apply(MANIFEST)["changed"]
    assert_well(site, other)


def assert_well(site, bystander):
    again = site.plan(MANIFEST)
    assert {r["action"] for r in again["resources"]} == {"noop"}
    assert container(site, "test.bystander")["pid"] == bystander["pid"]
    assert site("doctor").stdout == "all is well\n"


def test_limits_are_told_in_the_units_of_their_fields(site, world):
    edit_cpus(site, world)
    ((line, *_),) = [r["diff"] for r in site.plan(MANIFEST)["resources"] if r["diff"]]
    assert line["path"] == "container.resources.cpus"
    assert line["before"] in ("-1 in cpu.cfs_quota_us", "max 100000 in cpu.max")
    assert line["after"] == 0.5
    site.apply(MANIFEST)


def test_what_follows_from_a_cause_is_nested_below_it(site, world):
    """Every cause that closes the port says so, below its own line."""
    for spoil in (kill_container, remove_veth, delete_bridge, delete_table, remove_map_element):
        spoil(site, world)
        (line,) = [line for r in site.plan(MANIFEST)["resources"] for line in r["diff"]]
        assert any("port 18090/tcp of test/Container/one" in effect for effect in line["effects"])
        text = site("plan", "-f", "-", stdin=MANIFEST).stdout
        assert text.count("\n        - ") == len(line["effects"])
        site.apply(MANIFEST)


def test_a_stray_is_one_line_and_is_removed_with_its_port(site, world):
    """It carries the project's mark, but is in neither its ledger nor its manifests."""
    other = container(site, "test.bystander")
    extra = sleeper("extra", "networks: [net]", "publish: [{port: 18091, targetPort: 80}]")
    site.apply(MANIFEST + extra)
    (entry,) = (world / "lib" / "projects" / "test" / "resources").glob("*extra*")
    entry.unlink()
    stray = container(site, "test.extra")["id"]

    (pending,) = [r for r in site.plan(MANIFEST)["resources"] if r["action"] != "noop"]
    assert (pending["action"], pending["name"]) == ("delete", stray)
    assert "in neither its ledger nor its manifests" in pending["reason"]
    said = site("doctor", code=1).stdout
    assert f"container {stray}: (test.extra) is in no ledger" in said
    assert "port 18091/tcp of test/Container/extra" in pending["reason"]

    site.apply(MANIFEST)
    assert "test.extra" not in {c["name"] for c in site.json("ps", "-a")}
    assert "18091" not in nft("list", "table", "inet", table_of(world))
    assert_well(site, other)


def test_a_volume_is_mended_in_place(site, world):
    before = one(site)["pid"]
    chmod_volume(site, world)
    chown_volume(site, world)
    (action,) = [r for r in site.apply(MANIFEST)["resources"] if r["action"] != "noop"]
    assert (action["kind"], action["name"], action["consequence"]) == ("Volume", "data", "live")
    folder = volume_folder(site, "data").stat()
    assert (folder.st_uid, folder.st_gid, folder.st_mode & 0o7777) == (5, 6, 0o2751)
    assert one(site)["pid"] == before


def test_owner_and_mode_that_the_manifest_does_not_give_are_the_containers_own(site):
    folder = volume_folder(site, "more")
    os.chown(folder, 77, 88)
    folder.chmod(0o700)
    assert {r["action"] for r in site.plan(MANIFEST)["resources"]} == {"noop"}


def test_what_stands_still_can_be_replaced_and_removed(site, world):
    freeze(site, world)
    old = one(site)["id"]
    site.apply(MANIFEST.replace("hostname: first", "hostname: second"))
    assert one(site)["id"] != old
    freeze(site, world)
    site("rm", "-f", "--override", "test.one", code=None)
    site.apply(MANIFEST)


def test_a_container_that_may_change_its_network_is_left_alone(site):
    able = "networks: [net], capabilities: {add: [NET_ADMIN]}"
    manifest = HEAD + document("Network", "net", "{}") + sleeper("able", able)
    site.json("apply", "-f", "-", "--partial", stdin=manifest)
    site("exec", "test.able", "ip", "route", "del", "default")
    site("exec", "test.able", "ip", "address", "add", "10.1.2.3/24", "dev", "eth0")
    plan = site.plan(manifest, "--partial")
    assert {r["action"] for r in plan["resources"]} == {"noop"}


def test_a_lost_volume_is_data_loss_and_refused(site, world):
    volume = volume_folder(site, "data").parent
    shutil.rmtree(volume)
    plan = site.plan(MANIFEST, code=1)
    assert any(r["consequence"] == "dataLoss" for r in plan["resources"])
    assert site("apply", "-f", "-", stdin=MANIFEST, code=1).stderr.count("accept-data-loss") >= 1
    assert not volume.exists()
    site.apply(MANIFEST, "--accept-data-loss")
    site("exec", "test.one", "sh", "-c", "echo new > /data/file")
    assert {r["action"] for r in site.plan(MANIFEST)["resources"]} == {"noop"}


def test_a_killed_supervisor_is_no_drift(site, world):
    before = one(site)
    for pid in supervisors(world):
        kill(pid)
    assert {r["action"] for r in site.plan(MANIFEST)["resources"]} == {"noop"}
    assert one(site)["pid"] == before["pid"]


def test_a_container_that_cannot_be_started_again_is_one_line(site, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    again = "restart: {policy: always, maxBackoff: 1s}"
    volumes = f"volumes: [{{bind: {source}, target: /mnt}}]"
    manifest = HEAD + sleeper("again", f"{again}, {volumes}, networkMode: none")
    site.json("apply", "-f", "-", "--partial", stdin=manifest)
    source.rmdir()
    kill(container(site, "test.again")["pid"])
    wait_until(lambda: "open_tree" in site.json("inspect", "test.again")[0]["status"]["error"])
    plan = site.plan(manifest, "--partial", code=1)
    (changed,) = [r for r in plan["resources"] if r["action"] != "noop"]
    assert changed["name"] == "again"
    assert f"it waits to be started again: open_tree(2) {source}" in changed["reason"]
    assert len(changed["diff"]) == 1
    assert f"bind source {source} of /mnt does not exist" in plan["refusals"][0]
    assert "waits to be started again" in site("status", "-p", "test", code=1).stdout
    source.mkdir()
    site.apply(manifest, "--partial")
    assert {r["action"] for r in site.plan(manifest, "--partial")["resources"]} == {"noop"}
    assert site("status", "-p", "test").stdout


def test_one_that_is_dying_can_be_looked_at(site, world):
    first = one(site)["pid"]
    # Somebody else's process in there: until it is reaped, the first one cannot end.
    with subprocess.Popen(["nsenter", "-t", str(first), "-p", "sleep", "98765"]) as guest:
        children = Path(f"/proc/{guest.pid}/task/{guest.pid}/children")
        wait_until(lambda: children.read_text().strip())
        os.kill(guest.pid, signal.SIGSTOP)
        try:
            os.kill(first, signal.SIGKILL)
            wait_until(lambda: gone_from_its_namespaces(first))
            # It has left its cgroup already, but nobody has moved it.
            causes = [line["cause"] for r in site.plan(MANIFEST)["resources"] for line in r["diff"]]
            assert not [cause for cause in causes if "moved out" in cause]
            assert "Traceback" not in site("status", "-p", "test", code=None).stderr
        finally:
            os.kill(guest.pid, signal.SIGCONT)
            guest.kill()
    wait_until(lambda: one(site)["state"] != "running")
    site.apply(MANIFEST)
    assert {r["action"] for r in site.plan(MANIFEST)["resources"]} == {"noop"}


def gone_from_its_namespaces(pid: int) -> bool:
    try:
        Path(f"/proc/{pid}/mountinfo").read_text()
    except OSError as error:
        return error.errno == errno.EINVAL
    return False


def test_with_keeper_and_supervisor_gone_an_apply_brings_them_back(site, world):
    before = one(site)
    # The one brings back the other, so both must go in one sweep.
    while pids := supervisors(world):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert any(f["kind"] == "supervisor" for f in site.json("doctor", code=1)["findings"])
    assert site.apply(MANIFEST)["changed"] is False
    assert site("exec", "test.one", "echo", "hello").stdout == "hello\n"
    assert one(site)["pid"] == before["pid"]
    assert site("doctor").stdout == "all is well\n"
