"""A published port that goes from one resource to another in one apply, without a gap."""

import urllib.request
from pathlib import Path

import pytest

from tests.support.cli import Bayplan
from tests.support.fuse import run_with_fuse
from tests.support.load import Visitor
from tests.support.manifests import HEAD, document

pytestmark = pytest.mark.e2e

PORT = 18191
OTHER = 18192
PAGE = "mkdir -p /www && echo {name} > /www/index.html && exec busybox httpd -f -p 80 -h /www"


def site(*resources: str) -> str:
    return HEAD + document("Network", "net", "{}") + "".join(resources)


def page(kind: str, name: str, *ports: int, probe: int = 80, after_s: float = 0) -> str:
    """Return one that serves its name on *ports*, and is well if *probe* answers.

    It serves *after_s* seconds after its start.
    """
    publish = ", ".join(f"{{port: {port}, targetPort: 80}}" for port in ports)
    health = f"health: {{tcp: {{port: {probe}}}, startPeriod: 9s, interval: 100ms, retries: 3}}"
    command = f"sleep {after_s}; {PAGE.format(name=name)}"
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


def assert_moves(bayplan: Bayplan, manifest: str, name: str) -> None:
    """Apply; the port goes to who is called *name*, and no request is lost."""
    with Visitor(PORT) as visitor:
        bayplan.apply(manifest)
    assert visitor.failures == []
    assert answer() == name
    assert_empty(bayplan, manifest)


def take_away(bayplan: Bayplan) -> None:
    for _ in range(2):
        bayplan.delete("test")


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
    take_away(bayplan)


def test_a_new_one_takes_over_of_one_that_goes_and_no_request_is_lost(bayplan: Bayplan):
    bayplan.apply(site(page("Container", "old", PORT)))
    # One that does not get well takes nothing.
    report = bayplan.apply(site(page("Service", "new", PORT, probe=81)), code=1)
    assert {r["id"]: r["outcome"] for r in report["resources"]}["Container/old"] == "skipped"
    assert answer() == "old"
    wanted = site(page("Service", "new", PORT))
    assert_moves(bayplan, wanted, "new")
    take_away(bayplan)


@pytest.mark.parametrize("kind", ["Service", "Container"])
def test_two_change_places_and_no_request_is_lost(bayplan: Bayplan, kind: str):
    """Also if they are replaced for something else, and one takes its time to come up."""
    before = site(page(kind, "blue", PORT), page(kind, "green", OTHER))
    after = site(page(kind, "blue", OTHER), page(kind, "green", PORT, after_s=2))
    bayplan.apply(before)
    assert (answer(PORT), answer(OTHER)) == ("blue", "green")
    with Visitor(PORT) as one, Visitor(OTHER) as other:
        bayplan.apply(after)
    assert (one.failures, other.failures) == ([], [])
    assert (answer(PORT), answer(OTHER)) == ("green", "blue")
    assert_empty(bayplan, after)
    take_away(bayplan)


def test_blue_stops_when_green_has_the_port_and_no_request_is_lost(bayplan: Bayplan):
    blue, green = page("Service", "blue", PORT), page("Service", "green")
    bayplan.apply(site(blue, green))
    blue = page("Service", "blue").replace("{publish", "{state: stopped, publish")
    wanted = site(blue, page("Service", "green", PORT, after_s=2))
    assert_moves(bayplan, wanted, "green")
    take_away(bayplan)


@pytest.mark.parametrize("kind", ["Service", "Container"])
def test_a_port_of_a_renamed_one_that_lets_go_first(bayplan: Bayplan, kind: str):
    bayplan.apply(site(page(kind, "a", PORT), page(kind, "b", OTHER)))
    renamed = page(kind, "a2", OTHER).replace("{name: a2}", "{name: a2, formerName: a}")
    assert "formerName" in renamed
    wanted = site(renamed, page(kind, "b", PORT))
    assert_moves(bayplan, wanted, "b")
    assert answer(OTHER) == "a2"
    take_away(bayplan)


def test_a_port_stays_where_it_is_if_who_takes_it_does_not_get_well(bayplan: Bayplan):
    before = site(page("Service", "blue", PORT), page("Service", "green", OTHER))
    bayplan.apply(before)
    with Visitor(PORT) as visitor:
        sick = page("Service", "green", PORT, probe=81).replace("startPeriod: 9s, ", "")
        bayplan.apply(site(page("Service", "blue", OTHER), sick), code=1)
    assert visitor.failures == []
    assert answer() == "blue"
    wanted = site(page("Service", "blue", OTHER), page("Service", "green", PORT))
    bayplan.apply(wanted)
    assert (answer(PORT), answer(OTHER)) == ("green", "blue")
    assert_empty(bayplan, wanted)
    take_away(bayplan)


def test_one_that_runs_already_and_is_not_well_takes_nothing(bayplan: Bayplan):
    probe = "exec: {command: [test, -e, /www/ok]}, onUnhealthy: none"
    green = page("Container", "green", OTHER).replace("tcp: {port: 80}", probe)
    green = green.replace("startPeriod: 9s, ", "")
    bayplan.apply(site(page("Container", "blue", PORT), green), code=1)
    moved = green.replace(f"port: {OTHER}", f"port: {PORT}")
    report = bayplan.apply(site(page("Container", "blue"), moved), code=1)
    outcomes = {r["id"]: r["outcome"] for r in report["resources"]}
    assert (outcomes["Container/green"], outcomes["Container/blue"]) == ("failed", "skipped")
    assert answer() == "blue"
    bayplan("exec", "test.green", "busybox", "touch", "/www/ok")
    wanted = site(page("Container", "blue"), moved)
    assert_moves(bayplan, wanted, "green")
    take_away(bayplan)


@pytest.mark.parametrize("kind", ["Service", "Container"])
def test_a_port_that_no_ledger_knows_is_taken_over(bayplan: Bayplan, world: Path, kind: str):
    bayplan.apply(site(page(kind, "blue", PORT)))
    for entry in (world / "lib").rglob(f"{kind}*blue*"):
        if entry.is_file():
            entry.unlink()
    wanted = site(page(kind, "green", PORT))
    assert_moves(bayplan, wanted, "green")
    take_away(bayplan)


def test_a_move_converges_killed_at_some_steps(world):
    bayplan = Bayplan(world)
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
