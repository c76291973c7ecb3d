"""The shipped unit on a machine with systemd that is really booted, and really loses its power."""

import json

import pytest

from tests.support.manifests import HEAD, document, sleeper
from tests.vm.machine import Machine

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(1800)]

BINDS = "{target: /to, bind: /srv/to}"


def notes_its_end(name: str, note: str, first: str = "", more: str = "", spec: str = "") -> str:
    """Return a Container that writes down that it was asked to end."""
    script = (
        f"{first}trap 'echo {note} >> /to/ends; sync; exit 0' TERM; while :; do sleep 0.1; done"
    )
    return document(
        "Container",
        name,
        f'{{container: {{image: box, networks: [net], command: [sh, -c, "{script}"], {more}}},'
        f" {spec}}}",
    )


SHOP = (
    HEAD
    + document("Network", "net", "{}")
    + document("Volume", "data", "{}")
    + sleeper("a-front", "networks: [net]", "dependsOn: [{kind: Container, name: m-app}]")
    + notes_its_end(
        "m-app",
        "app",
        more=f"volumes: [{BINDS}]",
        spec="update: {healthyFor: 0s},"
        " dependsOn: [{kind: Container, name: z-db, condition: healthy}]",
    )
    + notes_its_end(
        "z-db",
        "db",
        first="echo begun >> /data/begun; sync; ",
        more=f"volumes: [{BINDS}, {{target: /data, volume: data}}],"
        " health: {exec: {command: ['true']}, interval: 1s, timeout: 20s}",
    )
)


def bayplan(machine: Machine, *words: str, stdin: str = "", code: int = 0) -> str:
    return machine.run(["bayplan", *words], stdin=stdin.encode(), code=code).out


def check_all_is_there(machine: Machine) -> None:
    """Wait for the unit as systemd would, and look whether all is as it was applied."""
    ran = machine.run(["systemctl", "start", "bayplan.service"], code=None)
    journal = machine.run(["journalctl", "-b", "-u", "bayplan.service"]).out
    assert ran.code == 0, journal
    found = sorted(json.loads(bayplan(machine, "ps", "-o", "json")), key=lambda c: c["startedAt"])
    names = [c["name"] for c in found if c["state"] == "running"]
    assert [n for n in names if n != "alone"] == ["test.z-db", "test.m-app", "test.a-front"], (
        journal
    )
    assert "alone" in names
    plan = json.loads(bayplan(machine, "plan", "-f", "-", "-o", "json", stdin=SHOP))
    assert not plan["changed"], plan
    assert "all is well" in bayplan(machine, "doctor")


def test_what_was_applied_is_there_after_reboots_and_losses_of_power():
    with Machine() as machine:
        machine.run(["sh", "-c", "mkdir /srv/to; cp systemd/bayplan.service /etc/systemd/system/"])
        bayplan(machine, "apply", "-f", "-", stdin=SHOP)
        words = ("--restart", "unless-stopped", "--name", "alone", "test/box", "sleep", "1000")
        bayplan(machine, "run", "-d", *words)
        machine.run(["systemctl", "enable", "--now", "bayplan.service"])
        check_all_is_there(machine)

        machine.reboot()
        # They ended in order, by their stop signal, before the machine did.
        assert machine.run(["cat", "/srv/to/ends"]).out == "app\ndb\n"
        check_all_is_there(machine)

        machine.power_off_hard()
        machine.power_on()
        assert machine.run(["cat", "/srv/to/ends"]).out == "app\ndb\n"
        check_all_is_there(machine)
        begun = bayplan(machine, "exec", "test.z-db", "cat", "/data/begun")
        assert begun == "begun\n" * 3
