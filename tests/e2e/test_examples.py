"""Every example is applied twice and deleted twice, and used in between."""

import json
import select
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.cli import BayplanProcess
from tests.support.quiet import machine

pytestmark = pytest.mark.e2e


@pytest.fixture
def bayplan(world):
    return BayplanProcess(world)


_PACKAGES_S = 600
"""For an apply that has Debian packages downloaded and installed, on a busy machine."""


def fetch(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
        return answer.read().decode()


def twice(bayplan, example: str) -> None:
    words = ("apply", "-f", f"examples/{example}", "-o", "json")
    first = json.loads(bayplan(*words, timeout=_PACKAGES_S).stdout)
    assert first["changed"]
    second = bayplan.json("apply", "-f", f"examples/{example}")
    assert second["changed"] is False
    assert {r["action"] for r in second["resources"]} == {"noop"}


def gone(bayplan, project: str) -> None:
    assert bayplan.delete(project)["changed"]
    assert bayplan.delete(project)["changed"] is False
    assert bayplan("doctor").stdout == "all is well\n"


def test_quickstart(bayplan):
    twice(bayplan, "quickstart")
    assert "Every container in its slot" in fetch(8080)
    gone(bayplan, "quickstart")


@pytest.mark.download
@pytest.mark.timeout(2 * _PACKAGES_S)
def test_shop(bayplan, world):
    before = without_disk(world)
    with no_mounts_below(world / "lib/images"):
        twice(bayplan, "shop")
    pages = [json.loads(fetch(8088)) for _ in range(8)]
    assert [page["visits"] for page in pages] == list(range(1, 9))
    assert pages[0]["greeting"] == "Welcome aboard"
    assert len({page["from"] for page in pages}) > 1

    values = ["--set", "unused=1"]
    bayplan("apply", "-f", "examples/shop", *values)
    web = [c for c in bayplan.json("ps") if c["name"].startswith("shop.web")]
    bayplan("kill", "--override", web[0]["id"])
    bayplan("stop", "--override", "shop.redis")
    redis = next(c for c in bayplan.json("ps", "-a") if c["name"] == "shop.redis")
    assert redis["exitCode"] == 0, "it was not asked to end, or did not hear it"
    bayplan("apply", "-f", "examples/shop")
    assert json.loads(fetch(8088))["visits"] == 9

    gone(bayplan, "shop")
    deadline = time.monotonic() + 10  # the supervisor and its cgroup go a second after the last
    while (after := without_disk(world)) != before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert after == before


@contextmanager
def no_mounts_below(folder: Path) -> Iterator[None]:
    """See that nothing is mounted there, where it would stay if its maker were killed."""
    found: set[str] = set()
    done = threading.Event()

    def watch() -> None:
        with open("/proc/self/mountinfo") as table:
            poll = select.poll()
            poll.register(table, select.POLLPRI)  # proc(5): that there was a change
            while not done.is_set():
                poll.poll(100)
                table.seek(0)
                found.update(line for line in table if f" {folder}/" in line)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
    assert found == set()


def without_disk(world) -> dict[str, object]:
    found = machine(world)
    del found["files"], found["processes"]
    return found
