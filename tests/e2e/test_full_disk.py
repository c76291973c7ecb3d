"""A disk without room: what only reads goes on, the rest names the file, and `rm` makes room."""

import contextlib
import errno
import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.drift import kill, supervisors
from tests.support.manifests import HEAD, document, sleeper

pytestmark = pytest.mark.e2e

MANIFEST = (
    HEAD
    + document("Network", "net", "{}")
    + sleeper("one", "networks: [net]", "publish: [{port: 18171, targetPort: 80}]")
)
NOTES = ("firewall.json", "firewall-pristine.json", "obstacles.json")


class Disk:
    """The small one that the world is on."""

    def __init__(self, folder):
        self.folder, self.ballast = folder, folder / "ballast"

    def fill(self):
        with open(self.ballast, "ab", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass

    def leave(self, size):
        self.fill()
        os.truncate(self.ballast, self.ballast.stat().st_size - size)

    def is_full(self):
        status = os.statvfs(self.folder)
        return status.f_bfree == 0


@pytest.fixture
def disk(bayplan):
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m", "none", str(bayplan.folder)], check=True
    )
    disk = Disk(bayplan.folder)
    try:
        bayplan.apply(MANIFEST)
        yield disk
    finally:
        disk.ballast.unlink(missing_ok=True)
        bayplan.delete("test")
        bayplan("doctor")
        subprocess.run(["umount", "-l", str(bayplan.folder)], check=True)


def names(bayplan):
    return {container["name"] for container in bayplan.json("ps", "-a")}


def test_what_only_reads_needs_no_room(bayplan, disk):
    for note in NOTES:
        (bayplan.folder / "run" / note).unlink(missing_ok=True)
    disk.fill()
    assert disk.is_full()
    planned = bayplan.plan(MANIFEST)
    assert {resource["action"] for resource in planned["resources"]} == {"noop"}
    assert "running" in bayplan("status").stdout
    assert bayplan("doctor").stdout == "all is well\n"
    assert json.loads(bayplan("get", "-p", "test").stdout)["resources"]
    assert not [path for path in (bayplan.folder / "run").glob("*.tmp")]


def test_a_delete_names_what_it_cannot_write_and_rm_makes_the_room(bayplan, disk):
    disk.fill()
    refused = bayplan("delete", "-p", "test", code=1).stderr
    journal = bayplan.folder / "lib" / "projects" / "test" / "journal"
    assert f"{journal} cannot be written: {os.strerror(errno.ENOSPC)}" in refused
    assert "free space there" in refused
    assert names(bayplan) == {"test.one"}
    bayplan("rm", "-f", "--override", "test.one")
    assert names(bayplan) == set()
    bayplan("delete", "-p", "test")


def test_a_supervisor_that_is_killed_comes_back(bayplan, disk):
    disk.fill()
    found = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in supervisors(bayplan.folder)}
    (supervisor,) = [pid for pid, command in found.items() if b"supervisor.main" in command]
    kill(supervisor)
    report = bayplan.apply(MANIFEST)
    assert {resource["action"] for resource in report["resources"]} == {"noop"}
    assert bayplan("exec", "test.one", "echo", "there").stdout == "there\n"
    assert "Name:\tone" in bayplan("exec", "test.one", "busybox", "nslookup", "one").stdout
    bayplan("rm", "-f", "--override", "test.one")
    assert names(bayplan) == set()


@pytest.mark.parametrize("room", [0, 4 << 10, 8 << 10, 12 << 10, 20 << 10, 28 << 10, 44 << 10])
def test_a_run_without_room_leaves_nothing(bayplan, disk, room):
    disk.leave(room)
    said = bayplan("run", "--rm", "test/box", "busybox", "true", code=125).stderr
    assert os.strerror(errno.ENOSPC) in said
    assert str(bayplan.folder) in said or "overlay" in said
    assert names(bayplan) == {"test.one"}
    disk.ballast.unlink()
    bayplan("doctor")


def test_containers_by_hand_are_removed_without_room(bayplan, disk):
    for name, port in (("a", 18172), ("b", 18173)):
        bayplan("run", "-d", "--name", name, "-p", f"{port}:80", "test/box", "sleep", "1000")
    disk.fill()
    bayplan("rm", "-f", "a")
    disk.fill()
    bayplan("rm", "-f", "b")
    assert names(bayplan) == {"test.one"}
    bayplan("doctor")


def test_replicas_are_stopped_and_removed_without_room(bayplan, disk):
    web = document(
        "Service",
        "web",
        "{replicas: 2, publish: [{port: 18174, targetPort: 80}], update: {healthyFor: 0s}, "
        "container: {image: box, command: [sleep, '1000000'], stopSignal: SIGKILL}}",
    )
    bayplan.apply(MANIFEST + web)
    disk.fill()
    bayplan("stop", "--override", "test.web.0")
    bayplan("rm", "-f", "--override", "test.web.1")
    disk.fill()
    bayplan("rm", "-f", "--override", "test.web.0")
    assert names(bayplan) == {"test.one"}
