"""One leak of each kind, planted by hand: the tests' own check and doctor find it, and mend it."""

import hashlib
import json
import os
import subprocess
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.drift import container, nft, run, table_of, tag_of
from tests.support.leaks import Snapshot
from tests.support.manifests import HEAD, document, sleeper

pytestmark = pytest.mark.e2e

MANIFEST = (
    HEAD
    + document("Network", "net", "{}")
    + document("Volume", "data", "{}")
    + sleeper(
        "one",
        "networks: [net], volumes: [{volume: data, target: /data}]",
        "publish: [{port: 18140, targetPort: 80}]",
    )
)
NOBODY = "0123456789ab"
DEAD = 999999999
"""A process id that cannot be."""


@pytest.fixture
def site(bayplan):
    bayplan.apply(MANIFEST)
    yield bayplan
    bayplan.delete("test")


def group_of(world: Path, container_id: str) -> Path:
    places = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))
    top = next(place for place in places if (place / f"bayplan-{tag_of(world)}").is_dir())
    return top / f"bayplan-{tag_of(world)}" / container_id


def plant_cgroup(world):
    group_of(world, NOBODY).mkdir()


def plant_process(world):
    process = subprocess.Popen(["sleep", "1000"], cwd=world, start_new_session=True)
    (group_of(world, "supervisor") / "cgroup.procs").write_text(str(process.pid))
    return process


def plant_container_folder(world):
    (world / "lib" / "containers" / NOBODY).mkdir()


def plant_half_removed_container(world):
    (world / "lib" / "removed" / NOBODY).mkdir(parents=True)


def plant_netns(world):
    (world / "run" / "netns" / NOBODY).touch()
    run("mount", "--bind", "/proc/self/ns/net", str(world / "run" / "netns" / NOBODY))


def plant_link(world):
    run("ip", "link", "add", f"bp{tag_of(world)}nfff", "type", "bridge")


def plant_lease(world):
    (record,) = (world / "lib" / "networks" / "by-id").glob("*.json")
    body = json.loads(record.read_text())
    address = body["network"]["gateway"].rpartition(".")[0] + ".200"
    lease = body["leases"][0] | {"container": NOBODY, "ip": address, "link": "", "netns": ""}
    body["leases"].append(lease)
    record.write_text(json.dumps(body))


def plant_publication(world):
    path = world / "lib" / "networks" / "firewall.json"
    body = json.loads(path.read_text())
    body["publications"][f"container/{NOBODY}"] = [
        {"port": 18149, "protocol": "tcp", "backends": [["10.1.1.1", 80]], "ip": "0.0.0.0"}
    ]
    path.write_text(json.dumps(body))


def plant_map_element(world):
    table = table_of(world)
    nft("add", "chain", "inet", table, "left")
    nft("add", "element", "inet", table, "published", "{ tcp . 18148 : goto left }")


def plant_mount(world):
    place = world / "run" / "left"
    place.mkdir()
    run("mount", "-t", "tmpfs", "none", str(place))


def plant_secret(world):
    secret = world / "run" / "secrets" / NOBODY
    secret.parent.mkdir(exist_ok=True)
    run("mount", "-t", "tmpfs", "none", str(secret.parent))
    secret.mkdir()


def plant_half_written_file(world):
    (world / "lib" / "networks" / "by-id" / f"half.json.{DEAD}.tmp").touch()


def plant_half_written_record(world):
    (world / "lib" / "projects" / "test" / "resources" / f".half.json.{DEAD}").touch()


def plant_half_written_status(world):
    """Of a container that is there; its supervisor was killed."""
    (recorded,) = (world / "run" / "containers").glob("*/status.json")
    recorded.with_name(f"status.json.{DEAD}.tmp").touch()


def plant_half_written_config(world):
    (config,) = (world / "lib" / "containers").glob("*/config.json")
    config.with_name(f"config.json.{DEAD}.tmp").touch()


def plant_half_written_marker(world):
    (marker,) = (world / "lib" / "layers").glob("*/layer.json")
    marker.with_name(f"layer.json.{DEAD}.tmp").touch()


def plant_half_copied_volume(world):
    (volume,) = (world / "lib" / "volumes").iterdir()
    (volume / "incoming").mkdir()
    (volume / "incoming" / "file").touch()


def plant_volume(world):
    (world / "lib" / "volumes" / NOBODY / "data").mkdir(parents=True)


def plant_blob(world):
    content = b"nothing leads here"
    name = hashlib.sha256(content).hexdigest()
    (world / "lib" / "images" / "blobs" / "sha256" / name).write_bytes(content)


def plant_half_written_blob(world):
    (world / "lib" / "images" / "tmp" / ".tmp-0123").touch()


def plant_layer(world):
    (world / "lib" / "layers" / ("0" * 64) / "fs").mkdir(parents=True)


def plant_half_unpacked_layer(world):
    (world / "lib" / "layers" / ".tmp-4567" / "fs").mkdir(parents=True)


LEAKS = {
    plant_cgroup: ("cgroup", "cgroup"),
    plant_process: ("process", "process"),
    plant_container_folder: ("container", "folder"),
    plant_half_removed_container: ("container", "folder"),
    plant_netns: ("mount", "netns"),
    plant_link: ("link", "link"),
    plant_lease: ("lease", "lease"),
    plant_publication: ("publication", "publication"),
    plant_map_element: ("element", "network"),
    plant_mount: ("mount", "mount"),
    plant_secret: ("secret", "secret"),
    plant_half_written_file: ("half", "file"),
    plant_half_written_record: ("half", "file"),
    plant_half_written_status: ("half", "file"),
    plant_half_written_config: ("half", "file"),
    plant_half_written_marker: ("half", "file"),
    plant_half_copied_volume: ("half", "file"),
    plant_volume: ("volume", "volume"),
    plant_blob: ("image", "image"),
    plant_half_written_blob: ("half", "image"),
    plant_layer: ("layer", "layer"),
    plant_half_unpacked_layer: ("half", "image"),
}
"""What plants it -> what the tests' check calls it, and what doctor does."""


def test_a_leak_of_each_kind_is_found_and_mended(site, world):
    before = Snapshot.take(world, files=True)
    assert site("doctor").stdout == "all is well\n"
    pid = container(site, "test.one")["pid"]
    processes = [made for plant in LEAKS if isinstance(made := plant(world), subprocess.Popen)]
    try:
        leaks = Snapshot.take(world, files=True).wait_settled(before, timeout_s=0)
        seen = Counter(leak.split()[0] for leak in leaks)
        assert seen >= Counter(kind for kind, _ in LEAKS.values())
        found = Counter(f["kind"] for f in site.json("doctor", code=1)["findings"])
        # The planted publication has no chain in the kernel, which is a second finding.
        assert found == Counter(kind for _, kind in LEAKS.values()) + Counter(network=2)
        site("doctor", "--mend")
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()
    assert site("doctor").stdout == "all is well\n"
    assert Snapshot.take(world, files=True).wait_settled(before) == []
    assert {r["action"] for r in site.plan(MANIFEST)["resources"]} == {"noop"}
    assert container(site, "test.one")["pid"] == pid


def test_what_may_be_data_is_not_thrown_away(site, world):
    """A volume's folder without a record: told, and left alone."""
    data = world / "lib" / "volumes" / NOBODY / "data"
    data.mkdir(parents=True)
    (data / "file").write_text("precious")
    (found,) = site.json("doctor", "--mend", code=1)["findings"]
    assert "there is data in it" in found["problem"]
    (data / "file").unlink()
    site("doctor", "--mend")
    assert not data.parent.exists()


def test_what_resists_is_named_and_all_else_is_mended(site, world):
    damaged = world / "lib" / "networks" / "by-id" / f"{NOBODY}.json"
    damaged.touch()
    run("mount", "--bind", str(damaged), str(damaged))  # keeps it
    stuck = world / "run" / "netns" / NOBODY
    stuck.mkdir()
    plant_container_folder(world)
    said = site("doctor", "--mend", code=1).stderr
    run("umount", str(damaged))
    stuck.rmdir()
    assert f"busy: '{damaged}'" in said
    assert f"{stuck}: [Errno 21] Is a directory" in said
    assert not (world / "lib" / "containers" / NOBODY).exists()
    site("doctor", "--mend")
    assert site("doctor").stdout == "all is well\n"


def test_what_was_to_be_removed_at_its_end_and_was_not(site, world):
    """Who was to remove it, or to start it at all, was killed."""
    left = site("run", "-d", "test/box", "true").stdout.strip()
    site("wait", left)
    file = world / "lib" / "containers" / left / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "autoRemove": True, "createdAt": 0.0}))
    assert site("doctor").stdout == "all is well\n"  # who removes it may be about to
    status = world / "run" / "containers" / left / "status.json"
    status.write_text(json.dumps({**json.loads(status.read_text()), "finishedAt": 1.0}))
    told = f"container {left}: was to be removed at its end, and was not"
    assert told in site("doctor", code=None).stdout
    assert told in site("doctor", "--mend", code=None).stdout
    assert site("doctor").stdout == "all is well\n"
    assert left not in site("ps", "-a", "-q").stdout


def test_a_layer_that_is_gone_is_unpacked_again(site, world):
    (layer,) = (world / "lib" / "layers").iterdir()
    layer.rename(world / "lib" / "aside")
    (found,) = site.json("doctor", code=1)["findings"]
    assert (found["kind"], "test.one" in found["problem"]) == ("layer", True)
    site("doctor", "--mend")
    assert (layer / "fs" / "bin").is_dir()
    (world / "lib" / "aside").rename(world / "aside")
    assert os.listdir(world / "aside" / "fs") == os.listdir(layer / "fs")
