"""Killed with -9 at any moment, the next apply converges and nothing is left behind."""

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.drift import launching, supervisors
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


@pytest.mark.parametrize("seed", range(2))
def test_apply_killed_at_random_points(bayplan, tmp_path, seed):
    """Two worlds, three kills each; the long run does forty points."""
    kills_at_random_points(bayplan, tmp_path, seed, count=3)


@pytest.mark.long
@pytest.mark.timeout(1800)
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


def victims_at_random(world, chance) -> list[int]:
    """Return whom to kill next: supervisor and keeper, what they are about to launch, or none."""
    choice = chance.random()
    if choice < 0.2:
        return supervisors(world)
    return launching(world) if choice < 0.6 else []


def all_supervisors(world, chance) -> list[int]:
    return supervisors(world)


def all_launching(world, chance) -> list[int]:
    return launching(world)


@pytest.mark.parametrize("victims", [all_supervisors, all_launching, victims_at_random])
def test_the_supervisor_or_its_children_killed_during_an_apply(bayplan, tmp_path, world, victims):
    killing_during_applies(bayplan, tmp_path, world, victims, count=1)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_supervisor_or_its_children_killed_during_many_applies(bayplan, tmp_path, world):
    killing_during_applies(bayplan, tmp_path, world, victims_at_random, count=40)


def killing_during_applies(bayplan, tmp_path, world, victims, *, count: int) -> None:
    chance = random.Random(count)
    manifest = tmp_path / "site.yaml"
    manifest.write_text(MANIFEST)
    for _ in range(count):
        with bayplan.start("apply", "-f", str(manifest), "-o", "json") as process:
            deadline = time.monotonic() + 5
            while process.poll() is None and time.monotonic() < deadline:
                for pid in victims(world, chance):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            process.communicate(timeout=60)
        converge(bayplan)
        bayplan.delete("test")
    assert bayplan("doctor").stdout == "all is well\n"
