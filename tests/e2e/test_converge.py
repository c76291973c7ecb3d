"""Apply twice, delete twice: what an operator does first."""

import urllib.request

import pytest

from tests.support.manifests import HEAD, document, sleeper

pytestmark = pytest.mark.e2e

PAGE = document("Config", "site", "{data: {index.html: 'every container in its slot'}}")


BY_DESIGN = {("run", "secrets"), ("run", "netns")}
"""Where values may lie (a tmpfs), and what cannot be read."""


def web(port: int, replicas: int = 2) -> str:
    return (
        HEAD
        + PAGE
        + document("Network", "front", "{}")
        + document(
            "Service",
            "web",
            f"{{replicas: {replicas}, publish: [{{port: {port}, targetPort: 8080}}], container: {{"
            "image: box, command: [busybox, httpd, -f, -p, '8080', -h, /srv], user: nobody, "
            "stopSignal: SIGKILL, networks: [front], configs: [{name: site, target: /srv}], "
            "health: {http: {port: 8080, path: /index.html}, interval: 100ms}}}",
        )
    )


def fetch(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
        return answer.read().decode()


def actions(report) -> set[str]:
    return {resource["action"] for resource in report["resources"]}


def test_a_service_converges_answers_and_goes(bayplan):
    manifest = web(18080)
    first = bayplan.apply(manifest)
    assert first["changed"]
    assert not first["failed"]
    assert fetch(18080) == "every container in its slot"

    second = bayplan.apply(manifest)
    assert second["changed"] is False
    assert actions(second) == {"noop"}

    assert bayplan.json("status")["findings"] is False
    assert bayplan.delete("test")["changed"]
    assert bayplan.delete("test")["changed"] is False
    assert bayplan("doctor").stdout == "all is well\n"


@pytest.mark.parametrize(
    "fields",
    [
        "privileged: true",
        "privileged: true, networkMode: host",
        "privileged: true, readOnly: true, resources: {cpuset: '0'}",
        "networkMode: host",
        "networkMode: none, readOnly: true",
        "capabilities: {add: [SYS_ADMIN, NET_ADMIN]}, user: '1000', init: true",
    ],
)
def test_whatever_a_container_may_do_the_second_apply_is_empty(bayplan, fields):
    manifest = HEAD + sleeper("one", fields)
    bayplan.apply(manifest)
    pid = bayplan.json("ps")[0]["pid"]
    second = bayplan.apply(manifest)
    assert (second["changed"], actions(second)) == (False, {"noop"})
    assert bayplan.json("ps")[0]["pid"] == pid
    bayplan.delete("test")
    bayplan.delete("test")


def test_plan_changes_nothing_and_tells_what_apply_does(bayplan, world):
    manifest = web(18081)
    plan = bayplan.plan(manifest)
    assert list(world.iterdir()) == []
    report = bayplan.apply(manifest)
    assert [(r["id"], r["action"]) for r in plan["resources"]] == [
        (r["id"], r["action"]) for r in report["resources"]
    ]
    bayplan.delete("test")


def test_limits_change_live(bayplan):
    head = HEAD + sleeper("one", "resources: {memory: 32Mi}")
    bayplan.apply(head)
    before = bayplan.json("ps")[0]
    report = bayplan.apply(head.replace("32Mi", "48Mi"))
    (changed,) = [r for r in report["resources"] if r["changed"]]
    assert changed["consequence"] == "live"
    assert [d["path"] for d in changed["diff"]] == ["container.resources.memory"]
    after = bayplan.json("ps")[0]
    assert (after["id"], after["pid"]) == (before["id"], before["pid"])
    bayplan.delete("test")


def test_a_changed_command_replaces_only_that_container(bayplan):
    both = HEAD + sleeper("one") + sleeper("two")
    bayplan.apply(both)
    before = {c["name"]: c["pid"] for c in bayplan.json("ps")}
    bayplan.apply(HEAD + sleeper("one", "env: {A: b}") + sleeper("two"))
    after = {c["name"]: c["pid"] for c in bayplan.json("ps")}
    assert after["test.two"] == before["test.two"]
    assert after["test.one"] != before["test.one"]
    assert len(after) == 2
    bayplan.delete("test")


def test_what_left_the_manifest_is_pruned(bayplan):
    bayplan.apply(HEAD + sleeper("one") + sleeper("two"))
    bayplan.apply(HEAD + sleeper("one"))
    assert [c["name"] for c in bayplan.json("ps", "-a")] == ["test.one"]
    bayplan.delete("test")


def test_a_partial_set_prunes_nothing(bayplan):
    bayplan.apply(HEAD + sleeper("one") + sleeper("two"))
    bayplan.apply(HEAD + sleeper("one"), "--partial")
    assert len(bayplan.json("ps")) == 2
    bayplan.delete("test")


def test_volumes_outlive_a_delete_unless_asked_for(bayplan, world):
    manifest = (
        HEAD
        + document("Volume", "data", "{}")
        + sleeper("one", "volumes: [{volume: data, target: /data}]")
    )
    bayplan.apply(manifest)
    (container,) = bayplan.json("ps")
    bayplan("exec", container["id"], "sh", "-c", "echo kept > /data/file")
    report = bayplan.json("delete", "-p", "test")
    assert any("data" in kept for kept in report["kept"])
    bayplan.apply(manifest)
    (container,) = bayplan.json("ps")
    assert bayplan("exec", container["id"], "cat", "/data/file").stdout == "kept\n"
    bayplan.delete("test")
    assert not any((world / "lib" / "volumes").iterdir())


def test_a_failed_step_stops_only_what_depends_on_it(bayplan):
    manifest = (
        HEAD
        + document(
            "Container",
            "broken",
            "{container: {image: box, command: [sh, -c, 'echo cannot go on; exit 3'], "
            "restart: 'no'}}",
        )
        + sleeper("after", spec="dependsOn: [{kind: Container, name: broken, condition: healthy}]")
        + sleeper("apart")
    )
    report = bayplan.apply(manifest, code=1)
    outcome = {r["name"]: r for r in report["resources"]}
    assert outcome["broken"]["outcome"] == "failed"
    assert "exit code 3" in outcome["broken"]["error"]["message"]
    assert outcome["after"]["outcome"] == "skipped"
    assert outcome["apart"]["outcome"] == "ok"
    bayplan.delete("test")


def test_a_job_runs_once(bayplan):
    manifest = (
        HEAD
        + document("Volume", "data", "{}")
        + document(
            "Job",
            "once",
            "{container: {image: box, command: [sh, -c, 'echo run >> /data/runs'], "
            "volumes: [{volume: data, target: /data}]}}",
        )
        + sleeper(
            "one",
            "volumes: [{volume: data, target: /data}]",
            "dependsOn: [{kind: Job, name: once, condition: completed}]",
        )
    )
    bayplan.apply(manifest)
    assert bayplan.apply(manifest)["changed"] is False
    (container,) = bayplan.json("ps")
    assert bayplan("exec", container["id"], "cat", "/data/runs").stdout == "run\n"
    bayplan.delete("test")


def test_secrets_reach_the_container_and_nothing_else(bayplan, world, tmp_path):
    (tmp_path / "password").write_text("canary-4711")
    manifest = (
        HEAD
        + document("Secret", "db", f"{{data: {{password: {{file: {tmp_path}/password}}}}}}")
        + sleeper("one", "env: {PASSWORD: {secret: db, key: password}}, secrets: [db]")
    )
    plan = bayplan("plan", "-f", "-", stdin=manifest).stdout
    report = bayplan("apply", "-f", "-", "-o", "json", stdin=manifest)
    (container,) = bayplan.json("ps")
    inside = bayplan("exec", container["id"], "sh", "-c", "cat /run/secrets/db/password; echo; env")
    assert inside.stdout.startswith("canary-4711\n")
    assert "PASSWORD=canary-4711" in inside.stdout
    assert "canary" not in plan + report.stdout + report.stderr
    found = [
        path
        for path in world.rglob("*")
        if path.is_file() and path.relative_to(world).parts[:2] not in BY_DESIGN
        and b"canary-4711" in path.read_bytes()
    ]  # fmt: skip
    assert found == []
    assert bayplan.apply(manifest)["changed"] is False
    (tmp_path / "password").write_text("canary-4712")
    changed = bayplan.plan(manifest)
    assert any(r["changed"] for r in changed["resources"] if r["name"] == "one")
    assert "canary" not in str(changed)
    bayplan.delete("test")
