"""Records of the OCI command line that cannot be read back: told, gone around, and got rid of."""

import json
import os
from pathlib import Path

import pytest

from tests.support.bundle import ID, bundle_in

pytestmark = pytest.mark.kernel


@pytest.fixture
def bundle(world):
    with bundle_in(world) as made:
        made.start()
        yield made


def _is_gone_by_force(bundle) -> str:
    """Delete the container by force, see that it is gone, and return the warning."""
    pid = int(Path(bundle.groups()[0], "cgroup.procs").read_text())
    done = bundle.call("delete", "--force", ID)
    assert done.returncode == 0, done.stderr
    assert not Path(f"/proc/{pid}/exe").exists()
    assert not bundle.groups()
    assert not (bundle.root / ID).exists()
    return done.stderr


@pytest.mark.parametrize("content", [b"", b'{"id": "b', b"{}", b"[]"])
def test_one_with_a_damaged_status_can_be_deleted(bundle, content):
    status = bundle.root / ID / "status"
    status.write_bytes(content)
    for words in (("state", ID), ("delete", ID)):
        said = bundle.fails(*words)
        assert f"{status} is damaged" in said
        assert "`bayplan-oci delete --force box` takes the container away" in said
        assert "doctor" not in said
    assert f"{status} is damaged" in _is_gone_by_force(bundle)


@pytest.mark.parametrize("content", [b"", b'{"hooks": {"po', b"[]", None])
def test_a_damaged_config_costs_the_poststop_hooks_and_no_more(bundle, content):
    config = bundle.root / ID / "config.json"
    config.unlink() if content is None else config.write_bytes(content)
    assert f"{config} is damaged" in bundle.fails("exec", ID, "true")
    assert "no poststop hooks are run" in _is_gone_by_force(bundle)


def test_with_both_damaged_the_folder_tells_the_cgroup(bundle):
    bundle.do("delete", "--force", ID)
    del bundle.config["linux"]["cgroupsPath"]
    bundle.start()
    bundle.cgroup = bundle.state()["cgroup"]
    for name in ("status", "config.json"):
        (bundle.root / ID / name).write_bytes(b"")
    _is_gone_by_force(bundle)


def test_a_damaged_status_of_a_former_boot_has_no_say_over_a_cgroup(bundle):
    """Its own went with that boot: one that is there is another's."""
    old = bundle.root / "old"
    old.mkdir(mode=0o700)
    (old / "config.json").write_text(json.dumps(bundle.config))
    (old / "status").touch()
    os.utime(old / "status", (0, 0))
    bundle.do("delete", "--force", "old")
    assert not old.exists()
    assert bundle.state()["status"] == "running"


def test_a_folder_of_somebody_elses_is_not_listed(bundle):
    (bundle.root / "a b").mkdir()
    assert bundle.do("list", "--quiet").split() == [ID]
    assert [each["id"] for each in json.loads(bundle.do("list", "--format", "json"))] == [ID]
    bundle.do("delete", "--regex", "a b")
    (bundle.root / "a b").rmdir()


def test_the_others_are_listed(bundle):
    bad = bundle.root / "bad"
    bad.mkdir(mode=0o700)
    (bad / "status").touch()
    done = bundle.call("list", "--format", "json")
    assert done.returncode == 0
    assert [each["id"] for each in json.loads(done.stdout)] == [ID]
    assert f"{bad}/status is damaged (empty)" in done.stderr
    bundle.do("delete", "--force", "bad")
