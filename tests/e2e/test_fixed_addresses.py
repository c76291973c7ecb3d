"""Addresses that containers ask for: given, kept over replacements, handed over."""

import pytest

from tests.support.cli import Bayplan
from tests.support.fuse import run_with_fuse
from tests.support.manifests import HEAD, document, sleeper

pytestmark = pytest.mark.e2e

SUBNET = "10.79.248"


def site(*containers: str) -> str:
    return HEAD + document("Network", "net", f"{{subnet: {SUBNET}.0/24}}") + "".join(containers)


def member(name: str, ip: str = "", *, env: str = "1", spec: str = "") -> str:
    """Return a Container on the network, at *ip* (its last number) if one is given."""
    asked = f", ip: {SUBNET}.{ip}" if ip else ""
    return sleeper(name, f"networks: [{{name: net{asked}}}], env: {{A: '{env}'}}", spec)


def addresses(bayplan: Bayplan) -> dict[str, str]:
    """Return the last number of the address of each container that runs."""
    return {
        found["name"].removeprefix("test."): lease["ip"].rpartition(".")[2]
        for found in bayplan.json("ps")
        for lease in bayplan.json("inspect", found["name"])[0]["networks"]
    }


def settled(bayplan: Bayplan, manifest: str) -> bool:
    return {r["action"] for r in bayplan.plan(manifest)["resources"]} == {"noop"}


def test_a_container_is_replaced_at_its_address(bayplan: Bayplan):
    bayplan.apply(site(member("x", "7")))
    changed = site(member("x", "7", env="2"))
    bayplan.apply(changed)
    assert addresses(bayplan) == {"x": "7"}
    assert settled(bayplan, changed)
    assert len(bayplan.json("ps", "-a")) == 1

    # A change that fails leaves both; what was there before comes back at the same address.
    bayplan.apply(changed.replace("[sleep, '1000000']", "[nowhere]"), code=1)
    bayplan.apply(changed)
    assert addresses(bayplan) == {"x": "7"}
    assert settled(bayplan, changed)
    bayplan.delete("test")


def test_a_replacement_at_its_address_converges_killed_at_some_steps(world):
    bayplan = Bayplan(world)
    files = [world / f"{env}.yaml" for env in "12"]
    for env, file in zip("12", files, strict=True):
        file.write_text(site(member("x", "7", env=env)))
    bayplan("apply", "-f", str(files[0]))
    now = kills = 0
    for point in range(9, 400, 31):
        ran = run_with_fuse(bayplan, ["apply", "-f", str(files[1 - now])], point)
        kills += ran.was_killed
        # Gone on with, or taken back.
        now = 1 - now if kills % 2 or not ran.was_killed else now
        done = bayplan("apply", "-f", str(files[now]), code=None)
        assert done.returncode == 0, f"{ran.last}\n{done.stdout}\n{done.stderr}"
        assert "nothing to do" in bayplan("plan", "-f", str(files[now])).stdout, ran.last
        (found,) = bayplan.json("ps", "-a")
        (lease,) = bayplan.json("inspect", found["name"])[0]["networks"]
        assert (found["state"], lease["ip"]) == ("running", f"{SUBNET}.7"), ran.last
        if not ran.was_killed:
            break
    assert kills > 1
    bayplan("delete", "-p", "test")


def test_an_address_asked_for_is_left_to_who_asks_for_it(bayplan: Bayplan):
    bayplan.apply(site(member("a"), member("b"), member("z", "2"), member("y", "3")))
    found = addresses(bayplan)
    assert (found["z"], found["y"]) == ("2", "3")
    bayplan.delete("test")


def test_an_address_somebody_else_keeps_is_refused_before_anything_is_stopped(bayplan: Bayplan):
    bayplan.apply(site(member("b", "50"), member("a")))
    before = addresses(bayplan)
    wanted = site(member("b", before["a"]), member("a"))
    said = (
        f"Container/b: address {SUBNET}.{before['a']} of Network/net is held by container test.a:"
        " take another one, or replace that one first"
    )
    assert bayplan.plan(wanted, code=1)["refusals"] == [said]
    assert said in bayplan("apply", "-f", "-", stdin=wanted, code=1).stderr
    assert addresses(bayplan) == before
    bayplan.delete("test")


def test_an_address_goes_from_a_container_that_is_deleted_to_a_new_one(bayplan: Bayplan):
    bayplan.apply(site(member("a"), member("b", "60")))
    given = addresses(bayplan)["a"]
    bayplan.apply(site(member("c", "60"), member("d", given)))
    assert addresses(bayplan) == {"c": "60", "d": given}
    bayplan.delete("test")


def test_an_address_goes_from_one_that_stays_to_another(bayplan: Bayplan):
    bayplan.apply(site(member("a", "60"), member("b")))
    wanted = site(member("a", "90"), member("b", "60"))
    bayplan.apply(wanted)
    assert addresses(bayplan) == {"a": "90", "b": "60"}
    assert settled(bayplan, wanted)
    # A swap needs one in between.
    (said,) = bayplan.plan(site(member("a", "60"), member("b", "90")), code=1)["refusals"]
    assert "is held by container test.a: take another one, or replace that one first" in said
    bayplan.delete("test")


def test_a_subnet_of_another_network_is_refused_before_anything_is_touched(bayplan: Bayplan):
    bayplan.apply(site(member("a", "7")))
    other = site(member("a", "7")).replace("name: test}", "name: other}")
    (said,) = bayplan.plan(other, code=1)["refusals"]
    assert said.startswith(f"Network/net: subnet {SUBNET}.0/24 overlaps {SUBNET}.")
    assert said in bayplan("apply", "-f", "-", stdin=other, code=1).stderr
    assert [c["name"] for c in bayplan.json("ps", "-a")] == ["test.a"]
    bayplan.delete("test")


def test_a_subnet_asked_for_is_left_to_the_network_that_asks_for_it(bayplan: Bayplan):
    def subnets() -> dict[str, str]:
        found = bayplan.json("get", "-p", "test")["resources"]
        return {
            network["id"]: network["status"]["subnet"]
            for network in found
            if network["id"].startswith("Network/")
        }

    any_one = HEAD + document("Network", "a", "{}")
    bayplan.apply(any_one)
    first = subnets()["Network/a"]
    bayplan.delete("test")
    bayplan.apply(any_one + document("Network", "z", f"{{subnet: {first}}}"))
    assert subnets()["Network/z"] == first
    bayplan.delete("test")
