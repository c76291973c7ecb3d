"""Volumes that ledger and disk do not agree on: data is never silently left behind."""

import shutil

import pytest

from tests.support.manifests import HEAD, document, sleeper
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e

MANIFEST = (
    HEAD
    + document("Volume", "data", "{}")
    + sleeper("one", "networkMode: none, volumes: [{volume: data, target: /data}]")
)


@pytest.fixture
def site(bayplan):
    bayplan.apply(MANIFEST)
    bayplan("exec", "test.one", "sh", "-c", "echo precious > /data/file")
    yield bayplan
    bayplan("delete", "-p", "test", "--delete-volumes")


def lose_entry(site):
    (entry,) = (site.folder / "lib/projects/test/resources").glob("Volume_data_*.json")
    entry.unlink()
    (volume,) = (site.folder / "lib/volumes").iterdir()
    return volume


def pending(site, code=0):
    return [r for r in site.plan(MANIFEST, code=code)["resources"] if r["action"] != "noop"]


def test_an_unrecorded_volume_is_adopted_with_its_data(site):
    volume = lose_entry(site)
    status = site("status", "-p", "test", code=1).stdout
    assert "kept, and adopted by the next apply that has it" in status
    for words in (("doctor",), ("doctor", "--mend")):
        said = site(*words, code=1).stdout
        assert f"volume {volume}: is in no ledger; it is kept" in said
        assert "mend" not in said.replace("--mend`", "")

    (action,) = pending(site)
    assert (action["name"], action["action"], action["consequence"]) == ("data", "update", "live")
    assert action["reason"] == "found in no ledger; adopted, with its data"
    site.apply(MANIFEST)
    assert pending(site) == []
    assert site("exec", "test.one", "cat", "/data/file").stdout == "precious\n"
    assert site("doctor").stdout == "all is well\n"


def test_which_of_two_is_not_guessed(site):
    volume = lose_entry(site)
    second = volume.with_name("second")
    shutil.copytree(volume, second)
    record = second / "meta.json"
    record.write_text(record.read_text().replace(volume.name, second.name))
    plan = site.plan(MANIFEST, code=1)
    (refusal,) = plan["refusals"]
    assert f"2 volumes say that they are it: {second}/data, {volume}/data" in refusal or (
        f"2 volumes say that they are it: {volume}/data, {second}/data" in refusal
    )
    site("apply", "-f", "-", stdin=MANIFEST, code=1)
    second.rename(site.folder / "aside")
    site.apply(MANIFEST)
    assert site("exec", "test.one", "cat", "/data/file").stdout == "precious\n"


def test_doctor_does_not_claim_to_bring_back_what_is_lost(site):
    (volume,) = (site.folder / "lib/volumes").iterdir()
    aside = volume.rename(site.folder / "aside")
    lost = f"volume {volume}: is gone, and with it the data of Volume/data of project test; put it"
    assert lost in site("doctor", code=1).stdout
    said = site("doctor", "--mend", code=1).stdout
    assert lost in said
    assert "mended" not in said
    aside.rename(volume)
    (volume / "data").rename(site.folder / "aside")
    said = site("doctor", "--mend", code=1).stdout
    assert f"volume {volume}: lost its data: put it back" in said
    assert "mended" not in said
    (site.folder / "aside").rename(volume / "data")
    assert site("doctor").stdout == "all is well\n"
    assert pending(site) == []


def test_an_unrecorded_volume_that_lost_its_data_is_data_loss(site):
    shutil.rmtree(lose_entry(site) / "data")
    (volume, one) = pending(site, code=1)
    assert (volume["consequence"], one["consequence"]) == ("dataLoss", "replace")
    site("apply", "-f", "-", stdin=MANIFEST, code=1)
    site.apply(MANIFEST, "--accept-data-loss")
    assert pending(site) == []


def test_a_deletion_that_was_killed_is_finished_and_the_volume_made_anew(site):
    (volume,) = (site.folder / "lib/volumes").iterdir()
    for number in range(20_000):  # it takes a while to delete them
        (volume / f"data/{number}").touch()
    delete = site.start("delete", "-p", "test", "--delete-volumes")
    wait_until(lambda: not volume.exists())
    delete.kill()
    delete.communicate()
    assert volume.with_name(f".removed-{volume.name}").exists()
    actions = {each["id"]: each["action"] for each in site.plan(MANIFEST)["resources"]}
    assert actions["Volume/data"] == "create"
    site.apply(MANIFEST)
    assert pending(site) == []
    assert site("doctor").stdout == "all is well\n"
    (made,) = (site.folder / "lib/volumes").iterdir()
    assert list((made / "data").iterdir()) == []
