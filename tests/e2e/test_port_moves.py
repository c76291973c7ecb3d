"""A published port that goes from one resource to another in one apply, without a gap."""

import urllib.request

import pytest

from tests.support.cli import Bayplan
from tests.support.fuse import Forked, run_with_fuse
from tests.support.load import Visitor
from tests.support.manifests import HEAD, document

pytestmark = pytest.mark.e2e

PORT = 18191
OTHER = 18192
PAGE = "mkdir -p /www && echo {name} > /www/index.html && exec busybox httpd -f -p 80 -h /www"


def site(*resources: str) -> str:
    return HEAD + document("Network", "net", "{}") + "".join(resources)


def page(kind: str, name: str, *ports: int, probe: int = 80) -> str:
    """Return one that serves its name on *ports*, and is well if *probe* answers."""
    publish = ", ".join(f"{{port: {port}, targetPort: 80}}" for port in ports)
    health = f"health: {{tcp: {{port: {probe}}}, interval: 100ms, retries: 3, startPeriod: 0s}}"
    command = PAGE.format(name=name)
    return document(
        kind,
        name,
        f"{{publish: [{publish}], container: {{image: box, networks: [net], stopSignal: SIGKILL, "
        f"command: [busybox, sh, -c, '{command}'], {health}}}}}",
    )


def answer(port: int = PORT) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as found:
        return found.read().decode().strip()


def assert_empty(bayplan: Bayplan, manifest: str) -> None:
    report = bayplan.apply(manifest)
    assert {r["action"] for r in report["resources"]} == {"noop"}


@pytest.mark.parametrize("kind", ["Service", "Container"])
def test_a_port_moves_between_two_that_stay_and_no_request_is_lost(bayplan: Bayplan, kind: str):
    before = site(page(kind, "blue", PORT), page(kind, "green", OTHER))
    after = site(page(kind, "blue"), page(kind, "green", PORT, OTHER))
    bayplan.apply(before)
    said = bayplan("plan", "-f", "-", stdin=after, code=None).stdout
    assert f"takes over port {PORT}/tcp of {kind}/blue" in said
    for manifest, name in ((after, "green"), (before, "blue")):
        with Visitor(PORT) as visitor:
            bayplan.apply(manifest)
        assert visitor.failures == []
        assert visitor.answers > 0
        assert answer() == name
        assert_empty(bayplan, manifest)
    bayplan.delete("test")
    bayplan.delete("test")


def test_a_new_one_takes_over_of_one_that_goes_and_no_request_is_lost(bayplan: Bayplan):
    bayplan.apply(site(page("Container", "old", PORT)))
    # One that does not get well takes nothing.
    report = bayplan.apply(site(page("Service", "new", PORT, probe=81)), code=1)
    assert {r["id"]: r["outcome"] for r in report["resources"]}["Container/old"] == "skipped"
    assert answer() == "old"
    wanted = site(page("Service", "new", PORT))
    with Visitor(PORT) as visitor:
        bayplan.apply(wanted)
    assert visitor.failures == []
    assert answer() == "new"
    assert_empty(bayplan, wanted)
    bayplan.delete("test")
    bayplan.delete("test")


def test_two_services_change_places(bayplan: Bayplan):
    before = site(page("Service", "blue", PORT), page("Service", "green", OTHER))
    after = site(page("Service", "blue", OTHER), page("Service", "green", PORT))
    for manifest, names in ((before, ("blue", "green")), (after, ("green", "blue"))):
        bayplan.apply(manifest)
        assert (answer(PORT), answer(OTHER)) == names
        assert_empty(bayplan, manifest)
    bayplan.delete("test")
    bayplan.delete("test")


def test_a_move_converges_killed_at_some_steps(world):
    bayplan = Forked(world)
    blue, green = world / "blue.yaml", world / "green.yaml"
    blue.write_text(site(page("Service", "blue", PORT), page("Service", "green", OTHER)))
    green.write_text(site(page("Service", "blue", OTHER), page("Service", "green", PORT)))
    now, then = blue, green
    bayplan("apply", "-f", str(now))
    kills = 0
    for point in range(5, 400, 17):
        ran = run_with_fuse(bayplan, ["apply", "-f", str(then)], point)
        kills += ran.was_killed
        if kills % 2 or not ran.was_killed:  # gone on with, or taken back
            now, then = then, now
        bayplan("apply", "-f", str(now))
        assert answer() == now.stem, ran.last
        assert "nothing to do" in bayplan("plan", "-f", str(now)).stdout, ran.last
        if not ran.was_killed:
            break
    assert kills > 1
    bayplan("delete", "-p", "test")
    bayplan("delete", "-p", "test")
