"""Users who do whatever comes to mind, several at once, for a while: no bug is told, nothing grows.

A seed that failed is tried again with ``BAYPLAN_SOAK_SEED``; threads make no two runs the same.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from runtime.root import Root
from runtime.supervisor.client import Supervisor
from tests.support.drift import supervisors
from tests.support.manifests import HEAD, document, sleeper

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(3600)]

USERS = 3
DEEDS = 100
NAMES = ("red", "green", "blue")
ROUNDS = 3
BUG = 70

BASE = HEAD.replace("name: test", "name: base")
PROJECT = (
    HEAD
    + document("Network", "net", "{}")
    + sleeper("one", "networks: [net]")
    + sleeper("two", "env: {A: VALUE}")
)

Words = Callable[[random.Random], tuple[str, ...]]


def _on(*words: str) -> Words:
    """Return a verb on a container, in the place of its name: NAME."""
    return lambda chance: tuple(w.replace("NAME", chance.choice(NAMES)) for w in words)


DEEDS_OF_USERS: tuple[Words, ...] = (
    *(_on("run", "-d", "--name", "NAME", "base/box", "sh", "-c", "echo up; sleep 1000"),) * 4,
    _on("run", "-d", "--name", "NAME", "--restart", "always", "base/box", "sleep", "0.3"),
    _on("run", "--rm", "base/box", "echo", "hello"),
    _on("run", "--rm", "-m", "8Mi", "base/box", "sh", "-c", "tail /dev/zero"),
    _on("exec", "NAME", "sh", "-c", "echo in; exit 3"),
    _on("exec", "NAME", "nothing-of-that-name"),
    _on("kill", "NAME"),
    _on("kill", "-s", "TERM", "NAME"),
    _on("stop", "-t", "0", "NAME"),
    _on("start", "NAME"),
    _on("restart", "-t", "0", "NAME"),
    _on("pause", "NAME"),
    _on("unpause", "NAME"),
    _on("rename", "NAME", "NAME"),
    _on("update", "--pids-limit", "100", "-m", "64Mi", "NAME"),
    _on("logs", "NAME"),
    _on("top", "NAME"),
    _on("cp", "/etc/hostname", "NAME:/tmp/copied"),
    _on("ps", "-a"),
    _on("stats", "--no-stream"),
    _on("inspect", "NAME"),
    _on("doctor"),
    *(_on("rm", "-f", "NAME"),) * 3,
)


def _resident_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def _descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def _one_user(bayplan, seed: int) -> list[str]:
    """Do what comes to mind; return what was told of bugs."""
    chance = random.Random(seed)
    bugs = []
    for number in range(DEEDS):
        stdin = None
        words = chance.choice(DEEDS_OF_USERS)(chance)
        match chance.randrange(40):
            case 0:
                for pid in supervisors(bayplan.folder):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            case 1 | 2:
                words, stdin = ("apply", "-f", "-"), PROJECT.replace("VALUE", f"v{number}")
            case 3:
                words = ("delete", "-p", "test")
        done = bayplan(*words, stdin=stdin, code=None)
        if done.returncode == BUG or "Traceback" in done.stderr:
            bugs.append(f"$ {' '.join(words)}\n{done.stdout}\n{done.stderr}")
    return bugs


def _singles(bayplan) -> list[str]:
    return [c["id"] for c in bayplan.json("ps", "-a") if not c["project"]]


def test_several_users_for_a_while(bayplan):
    seed = int(os.environ.get("BAYPLAN_SOAK_SEED") or random.randrange(1 << 32))
    print(f"BAYPLAN_SOAK_SEED={seed}")
    bayplan.apply(BASE)
    bayplan.apply(PROJECT)
    found = []
    for first in range(seed, seed + ROUNDS * USERS, USERS):
        with ThreadPoolExecutor(USERS) as pool:
            users = [pool.submit(_one_user, bayplan, first + user) for user in range(USERS)]
            bugs = [bug for user in users for bug in user.result()]
        assert not bugs, "\n".join(bugs)
        for container in _singles(bayplan):
            bayplan("rm", "-f", container)
        bayplan.apply(PROJECT)
        assert {r["action"] for r in bayplan.plan(PROJECT)["resources"]} == {"noop"}
        assert bayplan("doctor").stdout == "all is well\n"
        pid = Supervisor(Root.at(bayplan.folder)).ping()["pid"]
        found.append((_descriptors(pid), _resident_kib(pid)))
    bayplan.delete("test")
    bayplan.delete("base")
    descriptors, resident_kib = zip(*found, strict=True)
    assert max(descriptors) - min(descriptors) <= 2, found
    assert max(resident_kib) - min(resident_kib) <= 16 << 10, found
