"""What worked goes on working while it is changed, and when the change is bad."""

import urllib.request

import pytest

from tests.e2e.test_converge import fetch, web
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


def test_no_request_fails_while_replicas_are_replaced(bayplan, tmp_path):
    manifest = tmp_path / "m.yaml"
    manifest.write_text(web(18111))
    bayplan("apply", "-f", str(manifest))
    manifest.write_text(web(18111).replace("user: nobody", "user: nobody, env: {NEW: '1'}"))
    answers = 0
    with bayplan.start("apply", "-f", str(manifest)) as process:
        while process.poll() is None:
            with urllib.request.urlopen("http://127.0.0.1:18111/", timeout=5) as answer:
                assert answer.status == 200
            answers += 1
    assert process.returncode == 0
    assert answers > 20
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

    def site(mtu: int) -> str:
        job = "{container: {image: box, command: ['true'], networks: [net]}}"
        return (
            HEAD
            + document("Network", "net", f"{{{subnet}mtu: {mtu}}}")
            + document("Job", "once", job)
            + sleeper("one", "networks: [net]")
        )

    bayplan.apply(site(1400))
    report = bayplan.apply(site(1300))
    assert bool(report["warnings"]) == bool(subnet)
    assert {r["action"] for r in bayplan.plan(site(1300))["resources"]} == {"noop"}
    assert bayplan("exec", "test.one", "cat", "/sys/class/net/eth0/mtu").stdout == "1300\n"
    assert len(bayplan.json("get", "-p", "test", "Network/net")["resources"]) == 1
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
