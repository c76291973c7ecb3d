"""A container that runs out of memory is said to have, by all who tell of it."""

import json
import select
import signal

import pytest

from tests.support.drift import container
from tests.support.manifests import HEAD
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e

HOG = "x=0123456789; while :; do x=$x$x; done"


def test_those_that_run_out_of_memory_are_said_to_have(bayplan):
    bayplan.apply(HEAD)
    run = ("run", "--network", "none", "-m", "16m", "--name")
    with bayplan.start("events", "-o", "jsonl") as events:
        while select.select([events.stdout], [], [], 0.1)[0] == []:
            bayplan("run", "--rm", "--network", "none", "test/box", "true")
        said = bayplan(*run, "front", "test/box", "sh", "-c", HOG, code=137).stderr
        assert "front: out of memory: the kernel has killed its program" in said
        bayplan(*run, "long", "-d", "test/box", "sleep", "1000")
        assert "out of memory" in bayplan("exec", "long", "sh", "-c", HOG, code=137).stderr
        bayplan("kill", "long")
        told = [(each["name"], each["type"]) for each in _until_died(events, "long")]
        events.send_signal(signal.SIGINT)
    assert [kind for name, kind in told if name == "front"] == ["created", "started", "oom", "died"]
    assert [kind for name, kind in told if name == "long"] == [
        *("created", "started", "exec", "oom", "execEnded", "died")
    ] or told[-3:-1] == [("long", "execEnded"), ("long", "oom")]  # it is told a moment later
    assert container(bayplan, "front")["oomKilled"]
    assert "exited (137), out of memory" in bayplan("ps", "-a").stdout
    waited = bayplan("wait", "front", code=137)
    assert waited.stdout == "137\n"
    assert "front: out of memory" in waited.stderr
    assert json.loads(bayplan("inspect", "front").stdout)[0]["status"]["oomKilled"]
    # One whose child the kernel has killed long before it was stopped.
    bayplan(*run, "child", "-d", "test/box", "sh", "-c", f"({HOG}); echo over; exec sleep 99")
    wait_until(lambda: "over" in bayplan("logs", "child").stdout)
    bayplan("stop", "-t", "0", "child")
    assert "a process of it" in bayplan("wait", "child", code=137).stderr
    bayplan("rm", "front", "long", "child")
    bayplan.delete("test")


def _until_died(events, name):
    found = []
    for event in map(json.loads, events.stdout):
        found.append(event)
        if (event["name"], event["type"]) == (name, "died"):
            return found
    raise AssertionError(found)
