"""Every example is applied twice and deleted twice, and used in between."""

import json
import time
import urllib.request

import pytest

from tests.support.quiet import machine

pytestmark = pytest.mark.e2e


def fetch(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
        return answer.read().decode()


def twice(bayplan, example: str) -> None:
    first = bayplan.json("apply", "-f", f"examples/{example}")
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


def test_shop(bayplan, world):
    before = without_disk(world)
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
    bayplan("apply", "-f", "examples/shop")
    assert json.loads(fetch(8088))["visits"] == 9

    gone(bayplan, "shop")
    deadline = time.monotonic() + 10  # the supervisor and its cgroup go a second after the last
    while (after := without_disk(world)) != before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert after == before


def without_disk(world) -> dict[str, object]:
    found = machine(world)
    del found["files"], found["processes"]
    return found
