"""A port that somebody has already: said before anything is touched, whoever it is."""

import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.cli import Bayplan
from tests.support.drift import nft, tag_of
from tests.support.manifests import HEAD, document, sleeper
from tests.support.worlds import fresh_world

pytestmark = pytest.mark.e2e

PORT = 18171


def web(port: int = PORT, *, name: str = "web", former: str = "", **publish: str) -> str:
    """Return a Container behind a port, with an address of the host if one is given."""
    where = "".join(f", {key}: {value}" for key, value in publish.items())
    return HEAD + document(
        "Container",
        name,
        f"{{publish: [{{port: {port}, targetPort: 80{where}}}], update: {{healthyFor: 0s}}, "
        "container: {image: box, command: [sleep, '1000000'], stopSignal: SIGKILL}}",
        f"formerName: {former}" if former else "",
    )


@pytest.fixture
def other() -> Iterator[Bayplan]:
    """Another world on this host."""
    with fresh_world() as folder:
        yield Bayplan(folder)


def refusal(bayplan: Bayplan, manifest: str) -> str:
    """Return why a plan and an apply refuse; nothing was changed by either."""
    (said,) = bayplan.plan(manifest, code=1)["refusals"]
    failed = bayplan("apply", "-f", "-", stdin=manifest, code=1)
    assert said in failed.stderr
    assert bayplan.json("ps", "-a") == []
    return said


def test_a_port_of_another_world_is_refused_by_apply_and_run(bayplan: Bayplan, other: Bayplan):
    other.apply(web())
    said = refusal(bayplan, web())
    assert said.startswith(
        f"Container/web: port {PORT}/tcp is published by another world of bayplan, nft table inet"
        " bayplan_"
    )
    bayplan.apply(web(PORT + 1))

    words = ("run", "-d", "--name", "one", "-p", f"127.0.0.1:{PORT}:80", "test/box", "sleep", "99")
    failed = bayplan(*words, code=125)
    assert f"port {PORT}/tcp is published by another world" in failed.stderr
    assert [c["name"] for c in bayplan.json("ps", "-a")] == ["test.web"]

    other.delete("test")
    bayplan(*words)
    # All addresses meet the one of a container of our own.
    said = bayplan("run", "-d", "-p", f"{PORT}:80", "test/box", "sleep", "99", code=125).stderr
    assert f"port {PORT}/tcp is published by" in said
    bayplan("rm", "-f", "one")
    bayplan.delete("test")


def test_different_addresses_do_not_meet(bayplan: Bayplan, other: Bayplan):
    other.apply(web(ip="127.0.0.2"))
    bayplan.apply(web(ip="127.0.0.1"))
    assert "published by another world" in bayplan.plan(web(), code=1)["refusals"][0]
    # What is published already is not asked about again; a name changes nothing about it.
    renamed = web(ip="127.0.0.1", name="site", former="web")
    bayplan.apply(renamed)
    bayplan.delete("test")
    other.delete("test")


def test_what_this_host_has_not_is_refused_before_anything_is_touched(bayplan: Bayplan):
    spec = (
        "resources: {cpuset: '0,4095'}, volumes: [{bind: /nope, target: /in}], "
        "devices: [{path: /dev/nope}]"
    )
    found = bayplan.plan(HEAD + sleeper("one", spec), code=1)["refusals"]
    (processors,) = [text for text in found if "processors" in text]
    assert processors.startswith("Container/one: cpuset 0,4095: this host has processors 0")
    assert "Container/one: bind source /nope of /in does not exist" in str(found)
    assert "Container/one: device /dev/nope does not exist" in found
    bayplan("apply", "-f", "-", stdin=HEAD + sleeper("one", spec), code=1)
    assert bayplan.json("ps", "-a") == []


def test_run_refuses_a_port_a_program_listens_on(bayplan: Bayplan):
    bayplan.apply(web(PORT + 2))
    with socket.create_server(("0.0.0.0", PORT)):
        failed = bayplan("run", "-d", "-p", f"{PORT}:80", "test/box", "sleep", "99", code=125)
    assert f"port {PORT}/tcp is in use by a program of this host" in failed.stderr
    bayplan.delete("test")


def test_a_redirection_of_somebody_else_is_warned_of(bayplan: Bayplan):
    table = f"bayplan-test-nat-{PORT}"
    script = (
        f"table ip {table} {{ chain p {{ type nat hook prerouting priority dstnat; "
        f"fib daddr type local tcp dport {PORT} dnat to 192.0.2.1:80; }}; }}"
    )
    subprocess.run(["nft", "-f", "-"], input=script, text=True, check=True)
    try:
        plan = bayplan.plan(web())
    finally:
        subprocess.run(["nft", "delete", "table", "ip", table], check=True)
    (said,) = [warning for warning in plan["warnings"] if str(PORT) in warning]
    assert said == (
        f"Container/web: chain p of nft table ip {table} takes port {PORT}/tcp: what comes from"
        " outside does not get here then"
    )


def test_a_foreign_chain_that_comes_later_is_told_of_by_every_look(bayplan, world):
    manifest = HEAD + document("Network", "front", "{}") + sleeper("one", "networks: [front]")
    bayplan.apply(manifest)
    assert bayplan.plan(manifest)["warnings"] == []
    table = f"other{tag_of(world)}"
    chain = "type filter hook forward priority 0; policy accept;"
    nft(f"add table inet {table}; add chain inet {table} fff {{ {chain} }};")
    try:
        nft(f'add rule inet {table} fff iifname "bp{tag_of(world)}n*" drop')
        for report in (bayplan.plan(manifest), bayplan.apply(manifest)):
            assert {r["action"] for r in report["resources"]} == {"noop"}
            assert any(f"nft table inet {table} drops" in w for w in report["warnings"])
        assert f"inet {table} drops" in bayplan("status").stderr
        assert f"inet {table} drops" in str(bayplan.json("status")["warnings"])
        assert f"inet {table} fff: " in bayplan("doctor", code=1).stdout
    finally:
        nft(f"delete table inet {table}")
    assert bayplan.plan(manifest)["warnings"] == []
    assert bayplan("doctor").stdout == "all is well\n"
    bayplan.delete("test")
    bayplan.delete("test")
