"""State files as a loss of power leaves them: named, gone around, and got over by doctor."""

import contextlib
import json
import os
import signal

import pytest

from tests.support.drift import kill, supervisors
from tests.support.manifests import HEAD, document, sleeper

pytestmark = pytest.mark.e2e

MANIFEST = (
    HEAD
    + document("Network", "net", "{}")
    + document("Volume", "data", "{}")
    + sleeper(
        "one",
        "networks: [net], volumes: [{volume: data, target: /data}]",
        "publish: [{port: 18170, targetPort: 80}]",
    )
    + sleeper("two", "networks: [net]")
)


@pytest.fixture
def site(bayplan):
    bayplan.apply(MANIFEST)
    yield bayplan
    bayplan("doctor", "--mend", code=None)
    bayplan.delete("test")


def settles(bayplan):
    bayplan("doctor")
    assert {r["action"] for r in bayplan.plan(MANIFEST)["resources"]} == {"noop"}
    assert {c["name"] for c in bayplan.json("ps")} == {"test.one", "test.two"}


def config_of(site, name):
    ids = {c["name"]: c["id"] for c in site.json("ps", "-a")}
    return site.folder / "lib" / "containers" / ids[name] / "config.json"


def test_a_damaged_config_is_named_and_the_others_go_on(site):
    config = config_of(site, "test.one")
    config.write_bytes(b"")

    listed = site("ps")
    assert "test.two" in listed.stdout
    assert "test.one" not in listed.stdout
    assert f"{config} is damaged (empty)" in listed.stderr
    findings = site.json("doctor", code=1)["findings"]
    assert [(f["kind"], f["object"]) for f in findings] == [("record", str(config))]
    said = site("inspect", config.parent.name, code=1).stderr
    assert f"{config} is damaged (empty)" in said
    site("plan", "-f", "-", stdin=MANIFEST)

    site("doctor", "--mend")
    site.apply(MANIFEST)
    settles(site)


def test_an_image_without_its_configuration_is_made_anew_and_its_layers_stay(site):
    images = site.folder / "lib" / "images" / "blobs" / "sha256"
    (lost,) = [path for path in images.iterdir() if b'"diff_ids"' in path.read_bytes()]
    lost.unlink()
    (site.folder / "lib" / "images" / "unswept").touch()
    said = site("doctor", "--mend", code=1).stdout
    assert "is damaged, drop or replace it" in said
    assert "layer" not in said
    site.apply(MANIFEST)
    settles(site)


def test_apply_alone_replaces_a_container_whose_config_is_damaged(site):
    config_of(site, "test.one").write_bytes(b"{")
    site.apply(MANIFEST)
    settles(site)


@pytest.mark.parametrize(
    "damaged",
    [
        "projects/test/resources/Container_one_*.json",
        "projects/test/resources/Volume_data_*.json",
        "projects/test/resources/Network_net_*.json",
        "projects/test/revisions/0001.json",
        "networks/by-id/*.json",
        "networks/firewall.json",
        "volumes/*/meta.json",
        "images/index.json",
    ],
)
def test_any_damaged_file_is_named_and_got_over(site, damaged):
    (path,) = (site.folder / "lib").glob(damaged)
    (kept,) = (site.folder / "lib" / "volumes").glob("*/data")
    (kept / "mine").write_text("precious")
    path.write_bytes(b"")

    findings = site.json("doctor", code=1)["findings"]
    assert ("record", str(path)) in [(f["kind"], f["object"]) for f in findings]
    for verb in ("plan", "apply"):
        done = site(verb, "-f", "-", stdin=MANIFEST, code=None)
        assert done.returncode in (0, 1), done.stderr
        if done.returncode:
            assert f"{path} is damaged (empty)" in done.stderr

    site("doctor", "--mend", code=None)
    site.apply(MANIFEST)
    settles(site)
    assert (kept / "mine").read_text() == "precious"


def test_all_of_them_damaged_at_once_are_got_over(site):
    lib = site.folder / "lib"
    for pattern in ("containers/*/config.json", "networks/by-id/*.json", "networks/firewall.json"):
        for path in lib.glob(pattern):
            path.write_bytes(b"")
    for path in lib.glob("projects/test/resources/*.json"):
        path.write_bytes(b"")
    assert len(site.json("doctor", code=1)["findings"]) >= 8
    site("doctor", "--mend", code=None)
    site.apply(MANIFEST)
    settles(site)


def test_run_files_emptied_by_a_loss_of_power_keep_nobody_from_work(site):
    run = site.folder / "run"
    statuses = [json.loads(p.read_bytes()) for p in run.glob("containers/*/status.json")]
    # The one brings back the other, so both must go in one sweep.
    while pids := supervisors(site.folder):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    for status in statuses:
        kill(status["pid"])
    for path in run.rglob("*.json"):
        path.write_bytes(b"")

    for words in (("ps", "-a"), ("status", "-p", "test")):
        assert site(*words, code=None).returncode in (0, 1)
    site("doctor", code=None)
    site.apply(MANIFEST)
    settles(site)
