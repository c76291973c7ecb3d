"""What worked goes on working while it is changed, and when the change is bad."""

import re
import signal
import subprocess

import pytest

from tests.e2e.test_converge import fetch, web
from tests.support.load import Visitor
from tests.support.manifests import HEAD, document, sleeper

pytestmark = pytest.mark.e2e


def test_a_bad_update_leaves_the_old_ones_serving(bayplan):
    good = web(18110)
    bayplan.apply(good)
    before = {c["id"] for c in bayplan.json("ps")}
    report = bayplan.apply(good.replace("-f, -p,", "-f, -q,"), code=1)
    assert report["failed"]
    for _ in range(8):
        assert fetch(18110) == "every container in its slot"
    assert before <= {c["id"] for c in bayplan.json("ps")}

    bayplan.apply(good)
    assert {r["action"] for r in bayplan.plan(good)["resources"]} == {"noop"}
    assert len(bayplan.json("ps")) == 2
    assert fetch(18110) == "every container in its slot"
    bayplan.delete("test")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_an_update_that_nobody_saw_proven_is_not_taken_for_it(bayplan, tmp_path, how):
    good = web(18112)
    bayplan.apply(good)
    manifest = tmp_path / "bad.yaml"
    manifest.write_text(
        good.replace("-h, /srv]", "-h, /tmp]").replace("html}", "html}, retries: 20")
    )
    with bayplan.start("apply", "-f", str(manifest), "-o", "jsonl") as process:
        next(line for line in process.stdout if '"waiting"' in line)
        process.send_signal(how)
    report = bayplan.apply(manifest.read_text(), code=1)
    assert report["failed"]
    for _ in range(8):
        assert fetch(18112) == "every container in its slot"

    bayplan.apply(good)
    assert {r["action"] for r in bayplan.plan(good)["resources"]} == {"noop"}
    assert len(bayplan.json("ps")) == 2
    bayplan.delete("test")


@pytest.mark.parametrize("policy", ["no", "on-failure"])
@pytest.mark.parametrize("health", ["", "health: {http: {port: 8080}, interval: 100ms}, "])
def test_a_new_version_that_puts_itself_into_the_background_is_not_proven(bayplan, policy, health):
    """Its first process ends with exit code 0, and everything in the container with it."""
    start, _, rest = web(18117).partition("health: ")
    good = f"{start}{health}restart: '{policy}'{rest[rest.index('}}}') + 1 :]}"
    bayplan.apply(good)
    before = {c["id"] for c in bayplan.json("ps")}
    report = bayplan.apply(good.replace("httpd, -f,", "httpd,"), code=1)
    errors = [r["error"]["message"] for r in report["resources"] if r["outcome"] == "failed"]
    proof = "it was healthy" if health else "it had run for 1s"
    assert errors == [f"it ended with exit code 0 before {proof}"]
    for _ in range(4):
        assert fetch(18117) == "every container in its slot"
    assert before <= {c["id"] for c in bayplan.json("ps")}
    bayplan.apply(good)
    assert {r["action"] for r in bayplan.plan(good)["resources"]} == {"noop"}
    bayplan.delete("test")


def test_a_container_that_may_end_and_serves_nobody_is_done_when_it_ended_well(bayplan):
    once = document(
        "Container",
        "once",
        "{container: {image: box, command: [busybox, 'true'], restart: on-failure}, "
        "update: {healthyFor: 1m}}",
    )
    waits = "dependsOn: [{kind: Container, name: once, condition: healthy, timeout: 20s}]"
    manifest = HEAD + once + sleeper("after", spec=waits)
    bayplan.apply(manifest)
    assert {r["action"] for r in bayplan.plan(manifest)["resources"]} == {"noop"}
    # One that waits for it from now on, and a new version of it.
    bayplan.apply(manifest + sleeper("later", spec=waits))
    changed = manifest.replace("'true'", "sh, -c, 'exit 0'")
    bayplan.apply(changed)
    assert {r["action"] for r in bayplan.plan(changed)["resources"]} == {"noop"}
    assert len(bayplan.json("ps", "-a")) == 2
    bayplan.delete("test")


@pytest.mark.parametrize("ignored", [False, True], ids=["heard", "nohup"])
def test_an_apply_whose_terminal_is_lost_ends_in_order(bayplan, tmp_path, ignored):
    manifest = tmp_path / "m.yaml"
    manifest.write_text(HEAD + sleeper("a").replace("healthyFor: 0s", "healthyFor: 2s"))
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN) if ignored else None
    try:
        process = bayplan.start("apply", "-f", str(manifest), "-o", "jsonl")
    finally:
        if former is not None:
            signal.signal(signal.SIGHUP, former)
    with process:
        next(line for line in process.stdout if '"waiting"' in line)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGHUP)
    assert process.returncode == (0 if ignored else 128 + signal.SIGHUP)
    assert bayplan.apply(manifest.read_text())["changed"] is not ignored
    bayplan.delete("test")


def test_stopping_a_service_stops_all_of_its_replicas(bayplan):
    """Nobody waits for what is to stop to become healthy."""
    good = web(18117, replicas=3)
    bayplan.apply(good)
    stopped = good.replace("replicas: 3", "replicas: 3, state: stopped")
    bayplan.apply(stopped)
    assert bayplan.json("ps") == []
    assert {r["action"] for r in bayplan.plan(stopped)["resources"]} == {"noop"}
    bayplan.delete("test")


def test_what_proved_itself_after_the_apply_was_killed_takes_over(bayplan, tmp_path):
    bayplan.apply(web(18113))
    manifest = tmp_path / "new.yaml"
    manifest.write_text(web(18113).replace("-f, -p,", "-f, -vv, -p,").replace("100ms", "1s"))
    before = {c["id"] for c in bayplan.json("ps")}
    with bayplan.start("apply", "-f", str(manifest), "-o", "jsonl") as process:
        next(line for line in process.stdout if '"waiting"' in line)
        process.kill()
    bayplan.apply(manifest.read_text())
    assert {r["action"] for r in bayplan.plan(manifest.read_text())["resources"]} == {"noop"}
    assert not before & {c["id"] for c in bayplan.json("ps", "-a")}
    assert fetch(18113) == "every container in its slot"
    bayplan.delete("test")


@pytest.mark.parametrize("way", ["scaled down", "stop-first"])
def test_what_serves_for_a_failed_successor_is_withdrawn_before_it_goes(bayplan, way):
    good = web(18120).replace("{replicas", "{update: {batch: 2}, replicas")
    bayplan.apply(good)
    bayplan.apply(good.replace("-h, /srv]", "-h, /tmp]"), code=1)
    with Visitor(18120) as visitor:
        if way == "scaled down":
            bayplan.apply(good.replace("replicas: 2", "replicas: 1"))
        else:
            bayplan.apply(good.replace("{batch: 2}", "{batch: 1, order: stop-first}"))
    assert visitor.failures == []
    assert len(bayplan.json("ps", "-a")) == (1 if way == "scaled down" else 2)
    bayplan.delete("test")


def test_failed_updates_do_not_pile_up(bayplan):
    good = web(18117)
    bayplan.apply(good)
    for folder in ("/one", "/two", "/three"):
        bayplan.apply(good.replace("-h, /srv]", f"-h, {folder}]"), code=1)
        assert len(bayplan.json("ps", "-a")) == 3
        assert fetch(18117) == "every container in its slot"
    bayplan.apply(good)
    assert len(bayplan.json("ps", "-a")) == 2
    bayplan.delete("test")


def test_a_service_in_no_ledger_goes_with_its_replicas_and_ports(bayplan, world):
    bayplan.apply(web(18115))
    entries = list((world / "lib" / "projects" / "test" / "resources").glob("*web*"))
    assert len(entries) == 3
    for entry in entries:
        entry.unlink()
    before = {c["id"] for c in bayplan.json("ps")}
    pending = [r for r in bayplan.plan(web(18115))["resources"] if r["action"] == "delete"]
    assert before <= {r["name"] for r in pending}
    bayplan.apply(web(18115))
    assert {r["action"] for r in bayplan.plan(web(18115))["resources"]} == {"noop"}
    assert len(bayplan.json("ps", "-a")) == 2
    assert not before & {c["id"] for c in bayplan.json("ps", "-a")}
    for _ in range(8):
        assert fetch(18115) == "every container in its slot"
    bayplan.delete("test")


def test_a_reader_that_goes_away_does_not_end_an_apply(bayplan, tmp_path):
    manifest = tmp_path / "m.yaml"
    manifest.write_text(web(18114))
    with bayplan.start("apply", "-f", str(manifest), "-o", "jsonl") as process:
        process.stdout.readline()
        process.stdout.close()
        process.stderr.close()
    assert process.returncode == 0
    assert {r["action"] for r in bayplan.plan(web(18114))["resources"]} == {"noop"}
    bayplan.delete("test")


def test_no_request_fails_while_replicas_are_replaced(bayplan):
    bayplan.apply(web(18111))
    with Visitor(18111) as visitor:
        bayplan.apply(web(18111).replace("user: nobody", "user: nobody, env: {NEW: '1'}"))
    assert visitor.failures == []
    assert visitor.answers > 20
    bayplan.delete("test")


def test_no_request_fails_through_updates_that_fail_or_are_ended(bayplan, tmp_path):
    """Ended in the wait for proof, failed, tried again, and taken back at last."""
    good = web(18116, replicas=3)
    bayplan.apply(good)
    before = {c["id"] for c in bayplan.json("ps")}
    bad = tmp_path / "bad.yaml"
    bad.write_text(good.replace("-h, /srv]", "-h, /tmp]"))
    with Visitor(18116) as visitor:
        for ending in (signal.SIGKILL, signal.SIGTERM, None, signal.SIGINT, None):
            with bayplan.start("apply", "-f", str(bad), "-o", "jsonl") as process:
                next(line for line in process.stdout if '"waiting"' in line)
                if ending is not None:
                    process.send_signal(ending)
                process.stdout.read()
            assert process.returncode != 0
            assert before <= {c["id"] for c in bayplan.json("ps")}
        bayplan.apply(good)
    assert visitor.failures == []
    assert visitor.answers > 100
    assert {r["action"] for r in bayplan.plan(good)["resources"]} == {"noop"}
    assert len(bayplan.json("ps", "-a")) == 3
    bayplan.delete("test")


def test_a_replaced_network_does_not_stay(bayplan):
    def site(subnet: str) -> str:
        return (
            HEAD
            + document("Network", "net", f"{{subnet: {subnet}}}")
            + sleeper("one", "networks: [net]")
        )

    bayplan.apply(site("10.79.240.0/24"))
    bayplan.apply(site("10.79.241.0/24"))
    found = bayplan.json("get", "-p", "test", "Network/net")["resources"]
    assert [n["status"]["subnet"] for n in found] == ["10.79.241.0/24"]
    assert {r["action"] for r in bayplan.plan(site("10.79.241.0/24"))["resources"]} == {"noop"}
    bayplan.delete("test")


@pytest.mark.parametrize("subnet", ["", "subnet: 10.79.242.0/24, "], ids=["given", "asked for"])
def test_a_network_can_be_made_anew_under_its_containers(bayplan, subnet):
    """With a subnet asked for the two cannot be there at once; a Job that ended is in no way."""

    def site(internal: str) -> str:
        job = "{container: {image: box, command: ['true'], networks: [net]}}"
        return (
            HEAD
            + document("Network", "net", f"{{{subnet}internal: {internal}}}")
            + document("Job", "once", job)
            + sleeper("one", "networks: [net]")
        )

    bayplan.apply(site("false"))
    report = bayplan.apply(site("true"))
    assert bool(report["warnings"]) == bool(subnet)
    assert {r["action"] for r in bayplan.plan(site("true"))["resources"]} == {"noop"}
    assert "default" not in bayplan("exec", "test.one", "ip", "route").stdout
    assert len(bayplan.json("get", "-p", "test", "Network/net")["resources"]) == 1
    bayplan.delete("test")


def test_the_mtu_of_a_network_changes_under_its_containers(bayplan):
    """One runs, one is stopped and started; without an MTU it is the host's again."""

    def site(spec: str) -> str:
        return (
            HEAD
            + document("Network", "net", spec)
            + sleeper("one", "networks: [net]")
            + sleeper("stopped", "networks: [net]")
        )

    def sizes(bridge: str) -> set[str]:
        (lease,) = [n for n in bayplan.json("inspect", "test.one")[0]["networks"]]
        inside = bayplan("exec", "test.one", "cat", "/sys/class/net/eth0/mtu").stdout
        outside = [
            # Not from /sys, which is that of the network namespace it was mounted in.
            subprocess.check_output(["ip", "-o", "link", "show", link], text=True)
            for link in (bridge, lease["host_link"])
        ]
        return {inside.strip(), *(re.search(r"mtu (\d+)", line)[1] for line in outside)}

    bayplan.apply(site("{}"))
    (net,) = bayplan.json("get", "-p", "test", "Network/net")["resources"]
    pid = {c["name"]: c["pid"] for c in bayplan.json("ps")}["test.one"]
    (given,) = sizes(net["status"]["bridge"])
    bayplan("stop", "--override", "test.stopped")
    for spec, size in (("{mtu: 1300}", "1300"), ("{mtu: 1350}", "1350"), ("{}", given)):
        report = bayplan.apply(site(spec))
        todo = {r["id"]: r["consequence"] for r in report["resources"] if r["action"] == "update"}
        assert todo.pop("Network/net") == "live"
        assert "Container/one" not in todo
        assert sizes(net["status"]["bridge"]) == {size}
        stopped = bayplan("exec", "test.stopped", "cat", "/sys/class/net/eth0/mtu").stdout
        assert stopped == f"{size}\n"
        assert {r["action"] for r in bayplan.plan(site(spec))["resources"]} == {"noop"}
    assert {c["name"]: c["pid"] for c in bayplan.json("ps")}["test.one"] == pid
    bayplan.delete("test")


def test_a_renamed_network_can_be_made_anew_under_its_containers(bayplan):
    """Its object goes by the name it was made under, and has the subnet the new one needs."""

    def site(name: str, gateway: str, metadata: str = "") -> str:
        subnet = f"{{subnet: 10.79.246.0/24, gateway: 10.79.246.{gateway}}}"
        return (
            HEAD
            + document("Network", name, subnet, metadata)
            + sleeper("one", f"networks: [{name}]")
        )

    bayplan.apply(site("old", "1"))
    bayplan.apply(site("new", "1", "formerName: old"))
    bayplan.apply(site("new", "9", "formerName: old"))
    assert {r["action"] for r in bayplan.plan(site("new", "9"))["resources"]} == {"noop"}
    assert "via 10.79.246.9" in bayplan("exec", "test.one", "ip", "route").stdout
    assert len(bayplan.json("get", "-p", "test", "Network/new")["resources"]) == 1
    bayplan.delete("test")


def test_what_secrets_were_rendered_into_touches_no_disk(bayplan, world, tmp_path):
    (tmp_path / "secret.yaml").write_text("word: canary-0815\n")
    (tmp_path / "site.yaml.j2").write_text(
        HEAD
        + document("Config", "conf", "{data: {app.ini: 'word={{ word }}'}}")
        + sleeper("one", "configs: [conf]")
    )
    words = ["-f", str(tmp_path / "site.yaml.j2"), "--secret-values", str(tmp_path / "secret.yaml")]
    bayplan("apply", *words)
    inside = bayplan("exec", "test.one", "cat", "/run/configs/conf/app.ini").stdout
    assert inside == "word=canary-0815"
    found = [
        path
        for path in (world / "lib").rglob("*")
        if path.is_file() and b"canary-0815" in path.read_bytes()
    ]
    assert found == []
    assert bayplan.json("apply", *words)["changed"] is False
    bayplan.delete("test")


def test_what_the_host_refuses_is_no_bug_of_ours(bayplan):
    manifest = HEAD + sleeper("one", "volumes: [{target: /x, bind: /etc/hostname/x, create: true}]")
    done = bayplan("apply", "-f", "-", stdin=manifest, code=1)
    assert "Not a directory" in done.stderr
    bayplan.delete("test")


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("groups: [adm]", "no group adm in the image's /etc/group"),
        ("user: nobody-there", "no user nobody-there in the image's /etc/passwd"),
    ],
)
def test_who_is_not_in_the_image_is_told_before_anything_is_stopped(bayplan, field, words):
    data = "volumes: [{volume: data, target: /data}]"
    before = HEAD + document("Volume", "data", "{}") + sleeper("one", data)
    bayplan.apply(before)
    pid = bayplan.json("ps")[0]["pid"]
    after = HEAD + document("Volume", "data", "{}") + sleeper("one", f"{data}, {field}")
    assert any(words in refusal for refusal in bayplan.plan(after, code=1)["refusals"])
    assert words in bayplan("apply", "-f", "-", stdin=after, code=1).stderr
    assert bayplan.json("ps")[0]["pid"] == pid
    assert bayplan.apply(before)["changed"] is False
    bayplan.delete("test")
    bayplan.delete("test")
