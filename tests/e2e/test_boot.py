"""After a boot, simulated by taking away all that one takes, `agent` brings back what ran."""

import json
import os
import re
import shutil
import subprocess
import threading

import pytest

from tests.support.drift import supervisors
from tests.support.fuse import run_with_fuse
from tests.support.manifests import HEAD, document, sleeper
from tests.support.reboot import cut_power

pytestmark = pytest.mark.e2e


def states(bayplan) -> dict[str, str]:
    return {c["name"]: c["state"] for c in bayplan.json("ps", "-a")}


def started(bayplan) -> list[str]:
    """Return the containers that run, in the order in which they were started."""
    running = [c for c in bayplan.json("ps") if c["state"] == "running"]
    return [c["name"] for c in sorted(running, key=lambda c: c["startedAt"])]


def todo(bayplan, manifest: str) -> dict[str, str]:
    plan = bayplan.plan(manifest)
    return {r["id"]: r["action"] for r in plan["resources"] if r["action"] != "noop"}


@pytest.fixture
def site(bayplan):
    yield bayplan
    for container in bayplan.json("ps", "-a"):
        if not container["project"]:
            bayplan("rm", "-f", container["id"])
    bayplan.delete("test")
    assert bayplan("doctor", code=None).stdout == "all is well\n"


SHOP = (
    HEAD
    + document("Network", "net", "{}")
    + document("Volume", "data", "{}")
    + sleeper(
        "a-front",
        "networks: [net]",
        "dependsOn: [{kind: Service, name: web, condition: healthy}]",
    )
    + document(
        "Service",
        "web",
        "{replicas: 2, container: {image: box, command: [sh, -c, 'sleep 0.5; touch /up; sleep 99'],"
        " stopSignal: SIGKILL, networks: [net], health: {exec: {command: [ls, /up]},"
        " interval: 200ms}}, publish: [{port: 18473}],"
        " dependsOn: [{kind: Container, name: z-db, condition: healthy}]}",
    )
    + sleeper(
        "z-db",
        "networks: [net], volumes: [{volume: data, target: /data}]",
        "publish: [{port: 18474}]",
    )
    + sleeper("byhand")
    + sleeper("off", spec="state: stopped")
    + document("Job", "once", "{container: {image: box, command: [sh, -c, 'exit 0']}}")
    + document(
        "Container",
        "done",
        "{container: {image: box, command: ['true'], restart: {policy: on-failure}},"
        " update: {healthyFor: 0s}}",
    )
)


def test_what_was_applied_comes_back_in_order_and_nothing_is_left_to_apply(site, world):
    site.apply(SHOP)
    site("stop", "--override", "test.byhand")
    revisions = site.json("revision", "list", "-p", "test")
    cut_power(world)
    assert "running" not in states(site).values()

    told = site("agent").stderr

    first, *web, last = started(site)
    assert (first, {*web}, last) == ("test.z-db", {"test.web.0", "test.web.1"}, "test.a-front"), (
        told
    )
    assert states(site)["test.byhand"] == "exited"
    assert states(site)["test.off"] == "created"
    assert {states(site)["test.once"], states(site)["test.done"]} == {"exited"}
    assert todo(site, SHOP) == {"Container/byhand": "update"}
    assert site.json("revision", "list", "-p", "test") == revisions
    assert site("agent").stderr == ""  # twice is once
    site("start", "--override", "test.byhand")
    assert todo(site, SHOP) == {}


def test_without_the_agent_doctor_mends_what_there_is_and_apply_brings_back_the_rest(site, world):
    site.apply(SHOP)
    cut_power(world)
    site("doctor", "--mend", code=None)
    assert site("doctor", code=None).stdout == "all is well\n"
    site.apply(SHOP)
    assert todo(site, SHOP) == {}


def test_a_shutdown_ends_dependents_first_and_does_not_count_as_by_hand(site, world):
    script = "trap 'echo NAME >> /to/ends; exit 0' TERM; while :; do sleep 0.05; done"
    where = world / "to"
    where.mkdir()

    def member(name: str, more: str = "") -> str:
        return document(
            "Container",
            name,
            f'{{container: {{image: box, command: [sh, -c, "{script.replace("NAME", name)}"],'
            f" restart: {{policy: on-failure}}, volumes: [{{target: /to, bind: {where}}}]}},"
            f" update: {{healthyFor: 0s}}{more}}}",
        )

    shop = HEAD + member("base") + member("user", ", dependsOn: [{kind: Container, name: base}]")
    site.apply(shop)
    site("agent", "--shutdown")
    assert set(states(site).values()) == {"exited"}
    assert (where / "ends").read_text() == "user\nbase\n"
    (layer,) = (world / "lib/layers").glob("*/fs")
    unpacked = layer.stat().st_ino
    cut_power(world)
    site("agent")
    assert started(site) == ["test.base", "test.user"]
    assert layer.stat().st_ino == unpacked
    assert todo(site, shop) == {}


def test_a_shutdown_leaves_alone_what_has_not_run_since_the_boot(site, world):
    site.apply(HEAD)
    site("run", "-d", "--name", "idle", "test/box", "sleep", "1000")
    cut_power(world)
    shutil.rmtree(world / "run" / "containers")  # on a tmpfs, elsewhere
    done = site("agent", "--shutdown")
    assert (done.stdout, done.stderr) == ("", "")
    assert states(site) == {"idle": "created"}
    assert not supervisors(world)


def test_a_damaged_firewall_record_is_a_problem_of_the_report(site, world):
    site.apply(HEAD)
    record = world / "lib" / "networks" / "firewall.json"
    record.parent.mkdir(exist_ok=True)
    record.write_bytes(b"")
    report = site.json("agent", code=1)
    record.unlink()
    assert f"{record} is damaged" in report["problems"][-1]


def test_those_of_no_project_come_back_by_their_restart_policy(site, world):
    site.apply(HEAD)
    run = ("run", "-d", "--stop-timeout", "0")
    for policy in ("always", "unless-stopped", "on-failure", "no"):
        for name in (policy, f"{policy}-stopped"):
            site(*run, "--restart", policy, "--name", name, "test/box", "sleep", "1000")
        site("stop", f"{policy}-stopped")
    cut_power(world)
    site("agent")
    assert sorted(started(site)) == ["always", "always-stopped", "unless-stopped"]


def test_what_a_loss_of_power_took_of_a_layer_is_there_before_anything_runs_from_it(site, world):
    site.apply(HEAD)
    site("run", "-d", "--name", "a", "--stop-timeout", "0", "test/box", "sleep", "1000")
    cut_power(world)
    (marker,) = (world / "lib/layers").glob("*/layer.json")
    (marker.parent / "fs/bin/busybox").write_bytes(b"")
    site("cp", "a:/bin/busybox", str(world / "copied"))
    assert (world / "copied").stat().st_size
    site("start", "a")
    # Nor is it changed below what runs.
    site("run", "--rm", "test/box", "true")
    assert site("exec", "a", "cat", "/proc/self/comm").stdout == "cat\n"


def test_one_that_shares_namespaces_ends_before_the_other_and_comes_after_it(site, world):
    script = "trap 'echo NAME >> /to/ends; exit 0' TERM; while :; do sleep 0.05; done"
    where = world / "to"
    where.mkdir()

    def run(name: str, *words: str) -> None:
        site(
            *("run", "-d", "--restart", "always", "--name", name, "-v", f"{where}:/to", *words),
            *("test/box", "sh", "-c", script.replace("NAME", name)),
        )

    words = script.replace("NAME", "app")
    shop = HEAD + document(
        "Container",
        "app",
        f'{{container: {{image: box, command: [sh, -c, "{words}"],'
        f" volumes: [{{target: /to, bind: {where}}}]}}, update: {{healthyFor: 1s}}}}",
    )
    site.apply(shop)
    run("over", "--network", "container:test.app")
    run("a-top", "--pid", "container:over")
    run("alone")
    site("agent", "--shutdown")
    ends = (where / "ends").read_text().split()
    assert [name for name in ends if name != "alone"] == ["a-top", "over", "app"]
    cut_power(world)

    told = site("agent").stderr

    assert [name for name in started(site) if name != "alone"] == ["test.app", "over", "a-top"], (
        told
    )
    site("stop", "--override", "test.app")
    cut_power(world)
    said = site("agent", code=1).stderr
    assert re.search(r"x over: container \w+, which it depends on, is exited", said)
    assert re.search(r"x a-top: container \w+, which it depends on, is \w+", said)
    assert started(site) == ["alone"]


def test_what_needs_a_secret_is_left_to_an_apply_and_status_says_so(site, world, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    shop = (
        HEAD
        + document("Secret", "key", f"{{data: {{key: {{file: {secret}}}}}}}")
        + sleeper("app", "env: {KEY: {secret: key, key: key}}")
        + sleeper("user", spec="dependsOn: [{kind: Container, name: app}]")
        + sleeper("other")
    )
    site.apply(shop)
    cut_power(world)
    for config in (world / "lib" / "containers").glob("*/config.json"):
        config.write_text(json.dumps(json.loads(config.read_text()) | {"createdAt": 1.0}))
    report = site.json("agent", code=1)
    fates = {r["id"]: r["outcome"] for r in report["projects"][0]["resources"]}
    assert fates == {
        "Container/app": "failed",
        "Container/other": "ok",
        "Container/user": "skipped",
    }
    assert "its secrets were on no disk" in site("status", code=1).stdout
    site.apply(shop)
    assert todo(site, shop) == {}
    assert set(states(site).values()) == {"running"}


def test_a_bind_source_is_waited_for_and_an_unmounted_one_is_not_used(site, world):
    disk = world / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "bayplan-test", str(disk)]
    subprocess.run(mount, check=True)
    try:
        shop = HEAD + sleeper("app", f"volumes: [{{target: /d, bind: {disk}}}]")
        site.apply(shop)
        cut_power(world)  # the tmpfs too
        said = site("agent", "--wait", "0s", code=1).stderr
        assert f"is not on the file system of {disk}" in said
        timer = threading.Timer(1.0, lambda: subprocess.run(mount, check=True))
        timer.start()
        site("agent")
        timer.join()
        assert todo(site, shop) == {}
        # What is mounted there, or nearer, since then is no reason to wait.
        cut_power(world)
        subprocess.run(mount, check=True)
        (disk / "sub").mkdir()
        site("agent", "--wait", "0s")
        assert todo(site, shop) == {}
    finally:
        site("rm", "-f", "--override", "test.app")
        while os.path.ismount(disk):
            subprocess.run(["umount", disk], check=True)


def test_an_apply_that_was_cut_off_is_the_next_ones_and_what_served_comes_back(site, world):
    def shop(command: str) -> str:
        return HEAD + document(
            "Service",
            "web",
            f"{{container: {{image: box, command: [sh, -c, '{command}'], stopSignal: SIGKILL,"
            " health: {exec: {command: [ls, /up]}, interval: 100ms, retries: 100}}}",
        )

    site.apply(shop("touch /up; sleep 99"))
    (old,) = site.json("ps")
    file = world / "new.yaml"
    file.write_text(shop("sleep 99"))
    ran = run_with_fuse(site, ["apply", "-f", str(file)], at="before ContainerDriver.settle")
    assert ran.was_killed, ran
    cut_power(world)

    said = site("agent", code=1).stderr

    assert "an apply was cut off here" in said
    assert [c["id"] for c in site.json("ps")] == [old["id"]]
    assert len(site.json("ps", "-a")) == 2  # what was to replace it is still the next apply's
    cut_power(world)
    site("agent", code=1)
    assert [c["id"] for c in site.json("ps")] == [old["id"]]
    site.apply(shop("touch /up; sleep 98"))
    assert todo(site, shop("touch /up; sleep 98")) == {}
