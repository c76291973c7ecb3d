"""Killed with -9 at any moment, the next apply converges and nothing is left behind."""

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.test_drift import supervisors
from tests.support.manifests import HEAD, document, sleeper

pytestmark = pytest.mark.e2e

MANIFEST = (
    HEAD
    + document("Network", "net", "{}")
    + document("Volume", "data", "{}")
    + document("Secret", "key", "{allowPlaintext: true, data: {word: {text: hush}}}")
    + sleeper("one", "networks: [net], secrets: [key], volumes: [{volume: data, target: /d}]")
    + document(
        "Service",
        "two",
        "{replicas: 2, publish: [{port: 18100, targetPort: 80}], update: {healthyFor: 0s}, "
        "container: {image: box, command: [sleep, '1000000'], stopSignal: SIGKILL, "
        "networks: [net]}}",
    )
)


def all_noop(plan) -> bool:
    return {resource["action"] for resource in plan["resources"]} == {"noop"}


def converge(bayplan) -> None:
    """Apply until done; the second plan must be empty and nothing may be orphaned."""
    bayplan.apply(MANIFEST)
    assert all_noop(bayplan.plan(MANIFEST))
    assert bayplan("doctor").stdout == "all is well\n"


def kill_after(process, seconds: float) -> bool:
    """Kill the apply after that long; returns whether it was still running."""
    try:
        process.wait(timeout=seconds)
    except Exception:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True
    return False


def interrupted_apply(bayplan, manifest: Path, seconds: float) -> bool:
    with bayplan.start("apply", "-f", str(manifest), "-o", "json") as process:
        return kill_after(process, seconds)


@pytest.mark.parametrize("seed", range(4))
def test_apply_killed_at_random_points(bayplan, tmp_path, seed):
    """Four worlds, three kills each; the long run does forty points."""
    kills_at_random_points(bayplan, tmp_path, seed, count=3)


@pytest.mark.long
def test_apply_killed_at_forty_random_points(bayplan, tmp_path):
    kills_at_random_points(bayplan, tmp_path, seed=40, count=40)


def kills_at_random_points(bayplan, tmp_path, seed: int, *, count: int) -> None:
    chance = random.Random(seed)
    manifest = tmp_path / "site.yaml"
    manifest.write_text(MANIFEST)
    began = time.monotonic()
    bayplan.apply(MANIFEST)
    whole = time.monotonic() - began
    bayplan.delete("test")
    for _ in range(count):
        interrupted_apply(bayplan, manifest, chance.uniform(0.2, whole))
        if chance.random() < 0.5:
            interrupted_apply(bayplan, manifest, chance.uniform(0.2, whole))
        converge(bayplan)
        bayplan.delete("test")
    assert bayplan("doctor").stdout == "all is well\n"


def test_the_supervisor_killed_during_an_apply(bayplan, tmp_path, world):
    manifest = tmp_path / "site.yaml"
    manifest.write_text(MANIFEST)
    with bayplan.start("apply", "-f", str(manifest), "-o", "json") as process:
        deadline = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < deadline:
            for pid in supervisors(world):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    converge(bayplan)
    bayplan.delete("test")


def test_a_half_written_world_is_found_by_doctor(bayplan, world):
    """One orphan of each kind, planted by hand: doctor finds each, and mends it."""
    import subprocess

    bayplan.apply(HEAD + sleeper("one"))
    (container,) = bayplan.json("ps")
    tag = next(Path("/sys/fs/cgroup/memory").glob(f"bayplan-*/{container['id']}")).parent.name
    prefix = "bp" + tag.removeprefix("bayplan-")
    planted = {
        "cgroup": Path(f"/sys/fs/cgroup/memory/{tag}/0123456789ab"),
        "folder": world / "lib" / "containers" / "0123456789ab",
        "netns": world / "run" / "netns" / "0123456789ab",
        "file": world / "lib" / "networks" / ".half.json.999999999",
    }
    planted["cgroup"].mkdir()
    planted["folder"].mkdir()
    planted["netns"].touch()
    planted["file"].touch()
    subprocess.run(["ip", "link", "add", f"{prefix}nfff", "type", "bridge"], check=True)
    planted["mount"] = world / "run" / "secrets"
    planted["mount"].mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(planted["mount"])], check=True)

    found = bayplan.json("doctor", code=1)["findings"]
    assert {f["kind"] for f in found} == {"cgroup", "folder", "netns", "file", "link", "mount"}

    bayplan("doctor", "--mend")
    assert bayplan("doctor").stdout == "all is well\n"
    assert all_noop(bayplan.plan(HEAD + sleeper("one")))
    bayplan.delete("test")
