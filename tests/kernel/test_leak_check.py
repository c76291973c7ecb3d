"""The check that guards the others finds one leak of each kind."""

import hashlib
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.leaks import Snapshot

pytestmark = pytest.mark.kernel


def run(*words: str) -> None:
    subprocess.run(words, check=True)


def test_a_planted_leak_of_each_kind_is_found(tmp_path):
    tag = hashlib.sha256(bytes(tmp_path)).hexdigest()[:6]
    before = Snapshot.take(tmp_path)
    mounted, group = tmp_path / "mounted", Path(f"/sys/fs/cgroup/memory/bayplan-{tag}")
    if not group.parent.is_dir():
        group = Path(f"/sys/fs/cgroup/bayplan-{tag}")
    with ExitStack() as planted:
        mounted.mkdir()
        run("mount", "-t", "tmpfs", "none", str(mounted))
        planted.callback(run, "umount", str(mounted))
        run("ip", "link", "add", f"bp{tag}n1", "type", "bridge")
        planted.callback(run, "ip", "link", "del", f"bp{tag}n1")
        run("nft", "add", "table", "inet", f"bayplan_{tag}")
        planted.callback(run, "nft", "delete", "table", "inet", f"bayplan_{tag}")
        group.mkdir()
        planted.callback(group.rmdir)
        process = subprocess.Popen(["sleep", "60"], cwd=tmp_path)
        planted.callback(process.wait)
        planted.callback(process.kill)
        planted.enter_context(open(tmp_path / "open", "w"))
        found = Snapshot.take(tmp_path).wait_settled(before, timeout_s=0)
    assert {leak.split()[0] for leak in found} == {
        "mount",
        "link",
        "nft",
        "cgroup",
        "process",
        "open",
    }
    assert Snapshot.take(tmp_path).wait_settled(before) == []
