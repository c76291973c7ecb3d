"""What people do with containers that run: stop them for a while, look at what they do."""

import json
import os
import select
import signal
from contextlib import suppress

import pytest

from runtime.root import Root
from runtime.supervisor.client import Supervisor
from tests.support.drift import cgroup_folder, container, kill
from tests.support.manifests import HEAD, sleeper
from tests.support.terminal import terminal
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e


@pytest.fixture
def box(bayplan):
    bayplan.apply(HEAD)
    yield
    bayplan.delete("test")
    bayplan.delete("test")


def test_a_paused_container_stands_still_and_its_health_is_not_looked_at(bayplan, box):
    script = "i=0; while :; do echo $((i=i+1)); sleep 0.02; done"
    health = ("--health-cmd", "true", "--health-interval", "100ms", "--health-timeout", "1s")
    bayplan(
        "run", "-d", "--name", "p", "--restart", "always", *health, "test/box", "sh", "-c", script
    )
    wait_until(lambda: container(bayplan, "p")["health"] == "healthy")
    bayplan("pause", "p")
    bayplan("pause", "p")
    assert "paused" in bayplan("ps").stdout
    before = bayplan("logs", "p").stdout
    found = container(bayplan, "p")
    assert (found["state"], found["paused"]) == ("running", True)
    said = bayplan("exec", "p", "true", code=125).stderr
    assert "it is paused" in said
    assert "bayplan unpause" in said
    assert bayplan("logs", "p").stdout == before
    assert container(bayplan, "p")["health"] == "healthy"
    bayplan("unpause", "p")
    bayplan("unpause", "p")
    wait_until(lambda: bayplan("logs", "p").stdout != before)
    after = container(bayplan, "p")
    assert (after["paused"], after["pid"], after["restarts"]) == (False, found["pid"], 0)
    bayplan("pause", "p")
    bayplan("stop", "p")
    assert container(bayplan, "p")["state"] == "exited"
    assert "it is exited" in bayplan("pause", "p", code=1).stderr
    assert "it is exited" in bayplan("unpause", "p", code=1).stderr
    bayplan("rm", "p")


def test_what_a_project_looks_after_is_paused_until_the_next_apply(bayplan):
    manifest = HEAD + sleeper("one", "health: {exec: {command: ['true']}, interval: 100ms}")
    bayplan.apply(manifest)
    pid = container(bayplan, "test.one")["pid"]
    assert "belongs to" in bayplan("pause", "test.one", code=1).stderr
    bayplan("pause", "--override", "test.one")
    (pending,) = [r for r in bayplan.plan(manifest)["resources"] if r["action"] != "noop"]
    assert "paused by hand" in str(pending)
    bayplan.apply(manifest)
    found = container(bayplan, "test.one")
    assert (found["paused"], found["pid"]) == (False, pid)
    assert bayplan.apply(manifest)["changed"] is False
    bayplan.delete("test")
    bayplan.delete("test")


def test_top_lists_what_runs_inside(bayplan, box):
    bayplan("run", "-d", "--name", "p", "-u", "1000", "test/box", "sh", "-c", "sleep 98763; :")
    bayplan("exec", "-d", "p", "sleep", "98762")
    wait_until(lambda: len(bayplan.json("top", "p")) == 3)
    found = {" ".join(each["command"]): each for each in bayplan.json("top", "p")}
    assert set(found) == {"sh -c sleep 98763; :", "sleep 98763", "sleep 98762"}
    first, child = found["sh -c sleep 98763; :"], found["sleep 98763"]
    assert first["pid"] == container(bayplan, "p")["pid"]
    assert (first["innerPid"], first["uid"]) == (1, 1000)
    assert child["parent"] == first["pid"]
    text = bayplan("top", "p").stdout
    assert text.splitlines()[0].split()[:3] == ["PID", "INNER", "PARENT"]
    assert "sleep 98762" in text
    bayplan("stop", "-t", "0s", "p")
    assert "it is exited" in bayplan("top", "p", code=1).stderr
    bayplan("rm", "p")


def test_stats_tell_what_docker_tells(bayplan, box):
    bayplan(
        "run", "-d", "--name", "p", "-m", "64m", "test/box", "sh", "-c", "wget -q 10.1 ; sleep 99"
    )
    bayplan("run", "--name", "q", "--network", "none", "test/box", "true")
    wait_until(lambda: bayplan.json("stats", "p")[0]["netSentBytes"] > 0)
    (p,) = bayplan.json("stats", "p")
    assert p["id"] == container(bayplan, "p")["id"]
    assert p["memoryLimitBytes"] == 64 << 20
    assert p["memoryPercent"] == pytest.approx(100 * p["memoryUsedBytes"] / (64 << 20), abs=0.01)
    assert 0 < p["memoryUsedBytes"] <= p["memoryBytes"]
    header, *lines = bayplan("stats", "--no-stream", "-a").stdout.splitlines()
    columns = "ID NAME CPU MEMORY / LIMIT MEM NET IN / OUT READ / WRITTEN TASKS"
    assert header.split() == columns.split()
    assert [line.split()[1] for line in sorted(lines, key=lambda x: x.split()[1])] == ["p", "q"]
    assert {row["name"] for row in bayplan.json("stats")} == {"p"}
    bayplan("rm", "-f", "p", "q")


def test_events_tell_the_story_of_a_container(bayplan, box):
    with bayplan.start("events", "-o", "jsonl") as events:
        told = map(json.loads, events.stdout)
        story = []

        def until(kind: str) -> dict:
            for event in told:
                if event["name"] == "p":
                    story.append(event["type"])
                    if event["type"] == kind:
                        return event
            raise AssertionError(f"no {kind} after {story}")

        # Until it listens: what was before is not told.
        while select.select([events.stdout], [], [], 0.1)[0] == []:
            bayplan("run", "--rm", "--network", "none", "test/box", "true")
        bayplan("run", "-d", "--name", "p", "--network", "none", "test/box", "sleep", "98763")
        assert until("created")["command"] == ["sleep", "98763"]
        assert until("started")["pid"] == container(bayplan, "p")["pid"]
        bayplan("exec", "p", "sh", "-c", "exit 3", code=3)
        assert until("execEnded")["exitCode"] == 3
        bayplan("pause", "p")
        bayplan("unpause", "p")
        bayplan("kill", "-s", "KILL", "p")
        died = until("died")
        assert (died["exitCode"], died["signal"], died["oomKilled"]) == (137, 9, False)
        bayplan("rm", "p")
        until("removed")
        assert story == [
            *("created", "started", "exec", "execEnded", "paused", "resumed", "died", "removed")
        ]
        events.send_signal(signal.SIGINT)
        assert events.wait(10) == 130


def test_events_tell_of_what_happened_while_the_supervisor_was_replaced(bayplan, box):
    supervisor = Supervisor(Root.at(bayplan.folder))
    run = ("run", "-d", "--network", "none")
    bayplan(*run, "--name", "p", "test/box", "sleep", "98763")
    bayplan(*run, "--name", "q", "--restart", "always", "test/box", "sleep", "98763")
    before = {name: container(bayplan, name)["pid"] for name in "pq"}
    with bayplan.start("events", "-o", "jsonl", "--until", "15s") as events:
        # Until it listens.
        while select.select([events.stdout], [], [], 0.1)[0] == []:
            bayplan("exec", "p", "true")
        pid = supervisor.ping()["pid"]
        os.kill(pid, signal.SIGSTOP)
        for each in before.values():
            kill(each)
        kill(pid)
        told = {name: [] for name in "pq"}
        for event in map(json.loads, events.stdout):
            if not event["type"].startswith("exec"):
                told[event["name"]].append(event)
            if len(told["p"]) == 1 and len(told["q"]) == 2:
                break
        events.send_signal(signal.SIGINT)
    assert [(each["type"], each["exitCode"]) for each in told["p"]] == [("died", 137)]
    died, restarted = told["q"]
    assert (died["type"], restarted["type"]) == ("died", "restarted")
    assert restarted["pid"] == container(bayplan, "q")["pid"] != before["q"]
    bayplan("rm", "-f", "p", "q")


def test_events_of_one_as_text(bayplan, box):
    bayplan("run", "-d", "--name", "p", "--network", "none", "test/box", "sleep", "98763")
    with bayplan.start("events", "p") as events:
        # Until it listens.
        while select.select([events.stdout], [], [], 0.1)[0] == []:
            bayplan("exec", "p", "true")
        bayplan("run", "--rm", "--name", "q", "--network", "none", "test/box", "true")
        bayplan("rename", "p", "new")
        bayplan("stop", "-t", "0s", "new")
        lines = []
        while not lines or lines[-1].split()[2] != "died":
            lines.append(events.stdout.readline().rstrip("\n"))
        events.send_signal(signal.SIGINT)
    assert {line.split()[1] for line in lines[:-1]} == {"p"}
    assert lines[-1].split()[1] == "new"
    assert lines[-1].endswith("exitCode=137 signal=9")
    assert bayplan("events", "--until", "50ms").stdout == ""
    assert "no end" in bayplan("events", "-o", "json", code=64).stderr
    bayplan("rm", "new")


def test_a_terminal_is_left_and_come_back_to(bayplan, box):
    run = ("run", "-it", "--name", "p", "--network", "none", "test/box", "sh")
    with terminal(bayplan, *run) as user:
        user.expect(b"# ")
        user.type(b"x=5; echo first $x\n")
        user.expect(b"first 5\r\n")
        user.type(b"\x10\x11")
        assert user.ends() == 0
    pid = container(bayplan, "p")["pid"]
    # What is typed before anything is said is answered, and the answer shown.
    with terminal(bayplan, "attach", "p") as user:
        user.type(b"echo again $x\n")
        user.expect(b"again 5\r\n")
        user.type(b"\x10\x11")
        assert user.ends() == 0
    look_on = ("attach", "--no-stdin", "p")
    with terminal(bayplan, "attach", "p") as user, terminal(bayplan, *look_on) as other:
        wait_until(lambda: "inotify" in " ".join(fds_of(other.process.pid)))
        user.type(b"echo second $x; stty size\n")
        user.expect(b"second 5\r\n31 97\r\n")
        other.expect(b"second 5\r")
        # What is not the whole of the keys is typed.
        user.type(b"busybox cat -v\n")
        user.expect(b"cat -v\r\n")
        user.type(b"a\x10b\n")
        user.expect(b"a^Pb\r\n")
        user.type(b"\x04")
        user.expect(b"# ")
        user.type(b"exit 4\n")
        assert (user.ends(), other.ends()) == (4, 4)
    assert container(bayplan, "p")["exitCode"] == 4
    assert pid
    bayplan("rm", "p")


def test_who_looks_on_without_a_terminal_leaves_it_running(bayplan, box):
    script = "echo early; while [ ! -e /go ]; do sleep 0.01; done; echo late; echo err >&2; exit 5"
    bayplan("run", "-d", "--name", "p", "--network", "none", "test/box", "sh", "-c", script)
    left = bayplan.start("attach", "p")
    with bayplan.start("attach", "p") as attached:
        wait_until(lambda: "inotify" in " ".join(fds_of(attached.pid, left.pid)))
        left.send_signal(signal.SIGINT)
        assert left.communicate(timeout=20) == ("", "")
        assert left.returncode == 130
        bayplan("exec", "p", "touch", "/go")
        assert attached.communicate(timeout=20) == ("late\n", "err\n")
        assert attached.returncode == 5
    assert "it is exited" in bayplan("attach", "p", code=1).stderr
    assert "no key" in bayplan("attach", "--detach-keys", "ctrl-ä", "p", code=64).stderr
    bayplan("rm", "p")


def fds_of(*pids: int) -> set[str]:
    """Return what all of *pids* have open."""
    found = []
    for pid in pids:
        found.append(set())
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with suppress(FileNotFoundError):
                found[-1].add(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return set.intersection(*found)


def test_limits_and_restart_policy_change_while_it_runs(bayplan, box):
    bayplan("run", "-d", "--name", "p", "--network", "none", "test/box", "sleep", "98763")
    before = container(bayplan, "p")
    bayplan(
        "update", "-m", "64Mi", "--cpus", "0.5", "--pids-limit", "7", "--restart", "always", "p"
    )

    def limits() -> dict:
        found = bayplan.json("inspect", "p")[0]["config"]
        return found["spec"]["linux"]["resources"] | {"restart": found["restart"]["policy"]}

    assert limits()["memory"]["limit"] == 64 << 20
    assert (limits()["cpu"]["quota"], limits()["pids"]["limit"]) == (50_000, 7)
    (stats,) = bayplan.json("stats", "p")
    assert stats["memoryLimitBytes"] == 64 << 20
    # The rest stays; no limit again.
    bayplan("update", "--pids-limit", "0", "p")
    assert limits()["pids"]["limit"] == -1
    bayplan("update", "-m", "-1", "--pids-limit", "7", "p")
    assert limits()["cpu"]["quota"] == 50_000
    assert limits()["restart"] == "always"
    assert bayplan.json("stats", "p")[0].get("memoryLimitBytes") is None
    assert container(bayplan, "p")["pid"] == before["pid"]
    kill(before["pid"])
    wait_until(lambda: container(bayplan, "p")["restarts"] == 1)
    found = container(bayplan, "p")
    before = limits()
    cpu, pids = (
        cgroup_folder(bayplan.folder, found["id"], "cpu"),
        cgroup_folder(bayplan.folder, found["id"], "pids") / "pids.max",
    )
    quota = cpu / ("cpu.max" if (cpu / "cpu.max").exists() else "cpu.cfs_quota_us")
    held = (quota.read_text(), pids.read_text())
    filled = "busybox head -c 8000000 /dev/zero > /dev/shm/x"
    bayplan("exec", "p", "sh", "-c", filled)
    refused = ("update", "--cpus", "0.25", "--pids-limit", "9", "-m", "2Mi", "p")
    assert "in use" in bayplan(*refused, code=1).stderr
    # Nothing of it is left: not for now, and not for the next start.
    assert (limits(), quota.read_text(), pids.read_text()) == (before, *held)
    assert "nothing to change" in bayplan("update", "p", code=64).stderr
    for words, said in (
        (("--cpuset-cpus", "abc"), "--cpuset-cpus: `abc` is not allowed"),
        (("--pids-limit", "-2"), "--pids-limit: `-2` is too small"),
        (("-m", "1"), "--memory: `1` is too small"),
        (("--cpus", "0"), "--cpus: `0"),
    ):
        assert said in bayplan("update", *words, "p", code=64).stderr
    bayplan("rm", "-f", "p")


def test_a_new_name_is_known_everywhere(bayplan, box):
    bayplan("run", "-d", "--name", "p", "test/box", "sleep", "98763")
    bayplan("run", "-d", "--name", "q", "test/box", "sleep", "98763")
    assert "is taken" in bayplan("rename", "p", "q", code=1).stderr
    assert "lower case" in bayplan("rename", "p", "P!", code=64).stderr
    pid = container(bayplan, "p")["pid"]
    bayplan("rename", "p", "new")
    assert container(bayplan, "new")["pid"] == pid
    assert "no container p" in bayplan("rename", "p", "other", code=1).stderr
    assert bayplan("exec", "q", "busybox", "nslookup", "new").returncode == 0
    assert bayplan("exec", "q", "busybox", "nslookup", "p", code=None).returncode != 0
    bayplan("rename", "new", "p")
    bayplan("rm", "-f", "p", "q")
