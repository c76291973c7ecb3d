"""Whatever is changed behind our back is seen by plan, in one line, and mended by apply.

One world for all of them: each test begins with an apply, and leaves what it has mended.
"""

import contextlib
import errno
import json
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.drift import (
    cgroup_folder,
    container,
    enter,
    kill,
    links_of,
    nft,
    rule_handle,
    run,
    supervisors,
    table_of,
)
from tests.support.fuse import Forked
from tests.support.manifests import HEAD, document, sleeper
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
    bayplan = Forked(world)
    yield bayplan
    bayplan.delete("test")


@pytest.fixture
def site(bayplan):
    bayplan.apply(MANIFEST)
    return bayplan


def one(bayplan):
    return container(bayplan, "test.one")


def inside(bayplan, *words):
    enter(one(bayplan)["pid"], *words)


def veth(bayplan):
    """Return the name of the host's end of the container's link."""
    (link,) = json.loads(enter(one(bayplan)["pid"], "-n", "ip", "-j", "link", "show", "eth0"))
    return socket.if_indextoname(link["link_index"])


def limit(bayplan, world, controller, file, value):
    (cgroup_folder(world, one(bayplan)["id"], controller) / file).write_text(value)


def kill_container(bayplan, world):
    kill(one(bayplan)["pid"])


def edit_memory(bayplan, world):
    limit(bayplan, world, "memory", "memory.limit_in_bytes", "-1")


def edit_pids(bayplan, world):
    limit(bayplan, world, "pids", "pids.max", "max")


def edit_cpus(bayplan, world):
    limit(bayplan, world, "cpu", "cpu.cfs_quota_us", "-1")


def remove_veth(bayplan, world):
    run("ip", "link", "del", veth(bayplan))


def down_veth(bayplan, world):
    run("ip", "link", "set", veth(bayplan), "down")


def take_veth_out(bayplan, world):
    run("ip", "link", "set", veth(bayplan), "nomaster")


def remove_address(bayplan, world):
    inside(bayplan, "-n", "ip", "addr", "flush", "dev", "eth0")


def delete_bridge(bayplan, world):
    run("ip", "link", "del", links_of(world, "n")[0])


def down_bridge(bayplan, world):
    run("ip", "link", "set", links_of(world, "n")[0], "down")


def remove_bridge_address(bayplan, world):
    run("ip", "addr", "flush", "dev", links_of(world, "n")[0])


def flush_table(bayplan, world):
    nft("flush", "table", "inet", table_of(world))


def delete_table(bayplan, world):
    nft("delete", "table", "inet", table_of(world))


def remove_rule(bayplan, world):
    handle = rule_handle(world, "postrouting", "containers reach the outside")
    nft("delete", "rule", "inet", table_of(world), "postrouting", "handle", handle)


def remove_rule_of_a_port(bayplan, world):
    nft("flush", "chain", "inet", table_of(world), "pub/test/Container/one/tcp/18090")


def remove_map_element(bayplan, world):
    nft("delete", "element", "inet", table_of(world), "published", "{ tcp . 18090 }")


def unmount_inside(bayplan, world):
    inside(bayplan, "-m", "umount", "-l", "/data")


def remount_volume(bayplan, world):
    inside(bayplan, "-m", "-p", "mount", "-o", "remount,bind,rw", "/more")


def remount_root(bayplan, world):
    inside(bayplan, "-m", "-p", "mount", "-o", "remount,bind,rw", "/")


def close_volume(bayplan, world):
    inside(bayplan, "-m", "-p", "mount", "-o", "remount,bind,ro", "/data")


def open_proc_sys(bayplan, world):
    inside(bayplan, "-m", "-p", "mount", "-o", "remount,bind,rw", "/proc/sys")


def unmask_file(bayplan, world):
    inside(bayplan, "-m", "umount", "/proc/timer_list")


def unmask_folder(bayplan, world):
    inside(bayplan, "-m", "umount", "/sys/firmware")


def open_proc_sys_wholly(bayplan, world):
    inside(bayplan, "-m", "umount", "/proc/sys")


def unmount_proc(bayplan, world):
    inside(bayplan, "-m", "umount", "-l", "/proc")


def unmount_dev(bayplan, world):
    inside(bayplan, "-m", "umount", "-l", "/dev")


def unmount_memory_group(bayplan, world):
    inside(bayplan, "-m", "umount", shown_memory_group(bayplan))


def open_memory_group(bayplan, world):
    place = shown_memory_group(bayplan)
    inside(bayplan, "-m", "-p", "mount", "-o", "remount,bind,rw", place)


def shown_memory_group(bayplan):
    """Return where the container sees its own limits: all in one place, or each by itself."""
    top, single = "/sys/fs/cgroup", "/sys/fs/cgroup/memory"
    mounts = Path(f"/proc/{one(bayplan)['pid']}/mountinfo").read_text()
    return single if f" {single} " in mounts else top


def remove_route(bayplan, world):
    inside(bayplan, "-n", "ip", "route", "del", "default")


def add_address(bayplan, world):
    inside(bayplan, "-n", "ip", "address", "add", "10.1.2.3/24", "dev", "eth0")


def down_loopback(bayplan, world):
    inside(bayplan, "-n", "ip", "link", "set", "lo", "down")


def down_inside(bayplan, world):
    inside(bayplan, "-n", "ip", "link", "set", "eth0", "down")


def change_sysctl(bayplan, world):
    inside(bayplan, "-n", "sysctl", "-q", "-w", "net.ipv4.ip_default_ttl=64")


def change_ipc_sysctl(bayplan, world):
    inside(bayplan, "-i", "sysctl", "-q", "-w", "kernel.shmmni=64")


def change_hostname(bayplan, world):
    inside(bayplan, "-u", "hostname", "other")


def move_out(bayplan, world):
    folder = cgroup_folder(world, one(bayplan)["id"], "memory")
    (folder.parent.parent / "cgroup.procs").write_text(str(one(bayplan)["pid"]))


def freeze(bayplan, world):
    folder = cgroup_folder(world, one(bayplan)["id"], "freezer")
    file, word = ("freezer.state", "FROZEN") if (folder / "freezer.state").exists() else (
        "cgroup.freeze", "1"
    )  # fmt: skip
    (folder / file).write_text(word)


def volume_folder(bayplan, name):
    found = bayplan.json("get", "-p", "test")["resources"]
    (path,) = [v["status"]["path"] for v in found if (v["kind"], v["name"]) == ("Volume", name)]
    return Path(path)


def chmod_volume(bayplan, world):
    volume_folder(bayplan, "data").chmod(0o700)


def chown_volume(bayplan, world):
    os.chown(volume_folder(bayplan, "data"), 77, -1)


def chgrp_volume(bayplan, world):
    os.chown(volume_folder(bayplan, "data"), -1, 88)


def remove_upper(bayplan, world):
    shutil.rmtree(world / "lib" / "containers" / one(bayplan)["id"] / "upper")


DRIFTS = {
    kill_container: "it was killed by SIGKILL",
    edit_memory: "memory.limit_in_bytes was changed by hand",
    edit_pids: "pids.max was changed by hand",
    edit_cpus: "cpu.cfs_quota_us was changed by hand",
    remove_veth: "is gone (veth removed)",
    down_veth: "is down",
    take_veth_out: "is not in bridge",
    remove_address: "is missing on eth0 inside container",
    delete_bridge: "of network test.net.* is gone",
    down_bridge: "of network test.net.* is down",
    remove_bridge_address: "lacks its address",
    flush_table: "is flushed (all rules removed)",
    delete_table: "is gone (deleted)",
    remove_rule: "rule removed from chain postrouting: containers reach the outside",
    remove_rule_of_a_port: "rule removed from chain pub/test/Container/one/tcp/18090",
    remove_map_element: "element tcp . 18090 removed from map published",
    unmount_inside: "/data was unmounted inside the container",
    remount_volume: "/more was remounted without ro inside the container",
    remount_root: "/ was remounted without ro inside the container",
    close_volume: "/data was remounted read-only inside the container",
    open_proc_sys: "/proc/sys was remounted without ro inside the container",
    unmask_file: "the mask on /proc/timer_list is missing inside the container",
    unmask_folder: "the mask on /sys/firmware is missing inside the container",
    open_proc_sys_wholly: "the read-only mount on /proc/sys is missing inside the container",
    unmount_proc: "/proc was unmounted inside the container",
    unmount_dev: "/dev was unmounted inside the container",
    unmount_memory_group: "/sys/fs/cgroup* was unmounted inside the container",
    open_memory_group: "/sys/fs/cgroup* was remounted without ro inside the container",
    remove_route: "default route via * is missing inside container",
    add_address: "address 10.1.2.3/24 was added to eth0 inside container",
    down_loopback: "link lo inside container * is down",
    down_inside: "link eth0 inside container * is down",
    change_sysctl: "sysctl net.ipv4.ip_default_ttl was changed inside the container",
    change_ipc_sysctl: "sysctl kernel.shmmni was changed inside the container",
    change_hostname: "the host name was changed to other",
    move_out: "was moved out of cgroup",
    freeze: "was frozen",
    remove_upper: "is without its writable layer",
    chmod_volume: "the mode of * was changed from 2751 to 0700",
    chown_volume: "the owner of * was changed from 5 to 77",
    chgrp_volume: "the group of * was changed from 6 to 88",
}


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
    assert (line["path"], line["before"]) == (
        "container.resources.cpus",
        "-1 in cpu.cfs_quota_us",
    )
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
