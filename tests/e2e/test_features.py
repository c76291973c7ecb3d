"""Fields of a container, as its program sees them."""

import json
import os
import pty
import select
import subprocess
import time

import pytest

from tests.support.cli import COMMAND
from tests.support.manifests import HEAD, document, sleeper

pytestmark = pytest.mark.e2e


def sh(bayplan, name: str, script: str, code: int | None = 0) -> str:
    return bayplan("exec", f"test.{name}", "sh", "-c", script, code=code).stdout


def ps(bayplan, name: str):
    (found,) = [c for c in bayplan.json("ps", "-a") if c["name"] == f"test.{name}"]
    return found


def wait_for(condition, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"


def test_what_a_program_sees(bayplan, tmp_path):
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "file").write_text("from the host")
    manifest = (
        HEAD
        + document("Network", "net", "{}")
        + document("Config", "conf", "{data: {a.txt: alpha, b.txt: beta}}")
        + sleeper(
            "one",
            "networks: [{name: net, aliases: [uno]}], readOnly: true, user: '1234:4321', "
            "groups: ['7'], workdir: /work, hostname: first, env: {NUMBER: 80, TRUTH: true}, "
            "ulimits: {nofile: {soft: 100, hard: 200}}, sysctls: {net.ipv4.ip_default_ttl: '77'}, "
            "extraHosts: {printer: 10.9.8.7}, shmSize: 1Mi, capabilities: {drop: [ALL]}, "
            "configs: [{name: conf, target: /etc/conf}, "
            "{name: conf, key: a.txt, target: /one.txt, mode: '0400', uid: 1234}], "
            "volumes: [{target: /scratch, tmpfs: {size: 1Mi}}, "
            f"{{target: /host, bind: {tmp_path}/host, readOnly: true}}]",
        )
        + sleeper("two", "networks: [net], init: true, capabilities: {add: [NET_RAW]}")
        + sleeper("none", "networkMode: none")
    )
    bayplan.apply(manifest)
    assert bayplan.apply(manifest)["changed"] is False

    assert sh(bayplan, "one", "id -u; id -g; id -G").split() == ["1234", "4321", "4321", "7"]
    assert sh(bayplan, "one", "pwd; hostname; echo $NUMBER $TRUTH") == "/work\nfirst\n80 true\n"
    assert sh(bayplan, "one", "ulimit -Sn; ulimit -Hn") == "100\n200\n"
    assert sh(bayplan, "one", "cat /proc/sys/net/ipv4/ip_default_ttl") == "77\n"
    assert "10.9.8.7\tprinter" in sh(bayplan, "one", "cat /etc/hosts")
    assert sh(bayplan, "one", "cat /etc/conf/b.txt /one.txt /host/file") == "betaalphafrom the host"
    assert "CapEff:\t0000000000000000" in sh(bayplan, "one", "grep CapEff /proc/self/status")
    assert sh(bayplan, "one", "echo x > /scratch/x && cat /scratch/x") == "x\n"
    for place in ("/x", "/host/x", "/etc/conf/x", "/proc/sys/kernel/hostname"):
        sh(bayplan, "one", f"echo x > {place}", code=1)
    assert sh(bayplan, "two", "cat /proc/1/comm; cat /proc/2/comm").split()[1] == "sleep"
    assert int(sh(bayplan, "two", "grep CapEff /proc/self/status").split()[1], 16) >> 13 & 1
    assert sh(bayplan, "none", "ls /sys/class/net") == "lo\n"

    for name in ("one", "uno", "one.test"):
        address = sh(bayplan, "two", f"nslookup {name} | tail -n +3 | grep -o 'Address.*'")
        assert "10." in address
    assert "1 packets received" in sh(bayplan, "two", "ping -c 1 -W 2 uno")
    bayplan.delete("test")


def test_a_volume_starts_with_what_the_image_holds(bayplan):
    manifest = (
        HEAD.replace("[/bin/busybox]", "[/bin/busybox], files: [/etc/debian_version]")
        + document("Volume", "etc", "{}")
        + sleeper("one", "volumes: [{volume: etc, target: /etc}]")
    )
    bayplan.apply(manifest)
    with open("/etc/debian_version") as file:
        assert sh(bayplan, "one", "cat /etc/debian_version") == file.read()
    bayplan.delete("test")


def test_an_unhealthy_container_is_restarted(bayplan):
    manifest = HEAD + sleeper(
        "one",
        "health: {exec: {command: [test, '!', -e, /tmp/sick]}, interval: 100ms, retries: 2}",
    )
    bayplan.apply(manifest)
    before = ps(bayplan, "one")
    sh(bayplan, "one", "touch /tmp/sick")
    wait_for(lambda: ps(bayplan, "one")["restarts"] > before["restarts"])
    bayplan.delete("test")


def test_a_container_that_ends_is_started_again_and_an_oom_is_told(bayplan):
    hog = "command: [sh, -c, 'sleep 1; exec tail /dev/zero'], resources: {memory: 16Mi}"
    manifest = HEAD + document(
        "Container",
        "hog",
        f"{{container: {{image: box, networkMode: none, restart: 'no', {hog}}}, "
        "update: {healthyFor: 0s}}",
    )
    bayplan.apply(manifest)
    wait_for(lambda: ps(bayplan, "hog")["state"] == "exited")
    assert "killed for its memory" in bayplan("status", code=1).stdout
    bayplan.apply(manifest.replace("restart: 'no'", "restart: always"))
    wait_for(lambda: ps(bayplan, "hog")["restarts"] >= 2)
    bayplan.delete("test")


def test_stop_asks_first_and_kills_after_the_grace(bayplan):
    manifest = HEAD + document(
        "Container",
        "deaf",
        "{container: {image: box, networkMode: none, stopGrace: 300ms, "
        "command: [sh, -c, 'trap \"echo asked\" TERM; while :; do sleep 0.05; done']}, "
        "update: {healthyFor: 100ms}}",
    )
    bayplan.apply(manifest)
    bayplan.apply(manifest.replace("update:", "state: stopped, update:"))
    assert ps(bayplan, "deaf")["exitCode"] == 137
    assert "asked" in bayplan("logs", "test.deaf").stdout
    assert bayplan.json("status")["findings"] is False
    bayplan.apply(manifest)
    assert ps(bayplan, "deaf")["state"] == "running"
    bayplan.delete("test")


def test_udp_is_published(bayplan):
    import socket

    script = (
        "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('', 7));\n"
        "while True: s.sendto(*s.recvfrom(100))"
    )
    manifest = (
        HEAD
        + document("Image", "python", "{host: {programs: [/usr/bin/python3]}}")
        + document(
            "Container",
            "echo",
            "{publish: [{port: 18123, targetPort: 7, protocol: udp}], container: {image: python, "
            f"stopSignal: SIGKILL, command: [python3, -c, {json.dumps(script)}]}}, "
            "update: {healthyFor: 300ms}}",
        )
    )
    bayplan.apply(manifest)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        client.sendto(b"ahoy", ("127.0.0.1", 18123))
        assert client.recv(100) == b"ahoy"
    bayplan.delete("test")


def test_exec_with_a_terminal(bayplan):
    bayplan.apply(HEAD + sleeper("one"))
    master, slave = pty.openpty()
    words = ["exec", "-it", "test.one", "sh", "-c", "tty; stty size; read word; exit 9"]
    with subprocess.Popen(
        [*COMMAND, *words], stdin=slave, stdout=slave, stderr=slave, env=bayplan.environment
    ) as process:
        os.close(slave)
        said = b""
        while b"\r\n" not in said or said.count(b"\r\n") < 2:
            assert select.select([master], [], [], 20)[0], said
            said += os.read(master, 1000)
        assert b"/dev/pts/0" in said
        os.write(master, b"done\n")
        assert process.wait(20) == 9
    os.close(master)
    bayplan.delete("test")


def test_pictures_and_templates(bayplan, tmp_path):
    (tmp_path / "site.yaml.j2").write_text(
        HEAD + "{% for name in names %}" + sleeper("c-{{ name }}") + "{% endfor %}"
    )
    overlay = tmp_path / "prod"
    overlay.mkdir()
    (overlay / "more.yaml").write_text(
        document("Container", "c-a", "{container: {resources: {memory: 77Mi}}}")
    )
    words = [
        "-f",
        str(tmp_path / "site.yaml.j2"),
        "--set",
        "names=[a, b]",
        "--overlay",
        str(overlay),
    ]
    tree = bayplan("normalize", *words)
    assert str(77 << 20) in tree.stdout
    assert bayplan("graph", *words).stdout.count("Container/c-") == 2
    picture = tmp_path / "site.svg"
    bayplan("graph", *words, "-o", "svg", "--out", str(picture))
    assert picture.read_text().count("<svg") == 1


@pytest.mark.parametrize(
    ("timeout", "state"), [("2s", "succeeded"), ("1s", "failed")], ids=["each in time", "too slow"]
)
def test_every_attempt_of_a_job_has_its_own_time(bayplan, tmp_path, timeout, state):
    """Three attempts of 1.2 s: more than two seconds together; the first ones fail."""
    script = "echo x >> /count/tries; sleep 1.2; test $(wc -l < /count/tries) -eq 3"
    manifest = HEAD + document(
        "Job",
        "slow",
        f"{{timeout: {timeout}, retries: 2, container: {{image: box, "
        f"command: [sh, -c, '{script}'], volumes: [{{target: /count, bind: {tmp_path}}}]}}}}",
    )
    report = bayplan.apply(manifest, code=0 if state == "succeeded" else None)
    assert (tmp_path / "tries").read_text() == "x\n" * 3
    if state == "succeeded":
        (found,) = bayplan.json("get", "-p", "test", "Job/slow")["resources"]
        assert found["status"]["result"]["attempts"] == 3
    else:
        assert "did not complete within 1 s (the last of 3 attempts)" in json.dumps(report)
    bayplan.delete("test")
