"""The power is lost anywhere in a first apply, an update and a delete; the next run converges."""

from __future__ import annotations

import random

import pytest

from tests.vm.losses import Stage
from tests.vm.machine import Machine

pytestmark = [
    pytest.mark.machine,
    pytest.mark.long,
    pytest.mark.download,
    pytest.mark.timeout(7200),
]

ROUNDS = 4  # of three losses each, in both worlds: more than twenty
# For how long the machine goes on: its journal is committed every 5 s, all else written after 30.
DELAYS_S = (0.0, 0.0, 0.5, 2.0, 6.0)


def test_what_was_not_synced_is_lost_and_what_was_is_not(machine: Machine) -> None:
    # Until then nothing is written back by itself, however long it takes.
    machine.run(["mount", "-o", "remount,commit=3600", "/"])
    machine.write("/proc/sys/vm/dirty_writeback_centisecs", "0")
    machine.write("/root/synced", "here", sync=True)
    machine.write("/root/replaced", "old", sync=True)
    machine.write("/root/replaced", "new")
    machine.write("/root/written", "gone")
    machine.power_off_hard()
    machine.power_on()
    assert machine.read("/root/synced") == "here"
    assert machine.read("/root/replaced") != "new"
    assert "gone" not in machine.run(["cat", "/root/written"], code=None).out


@pytest.mark.parametrize("world", [None, "/var/lib/site"], ids=["default", "a-root-of-its-own"])
def test_power_lost_at_points_of_everything(machine: Machine, world: str | None) -> None:
    """A world with a root of its own finds what was in its run folder again after the boot."""
    stage = Stage(machine, world)
    chance = random.Random(str(world))
    passed = {what: stage.passes(what) for what in ("alpha", "beta", "delete")}
    losses = 0
    for _ in range(ROUNDS):
        for what in ("alpha", "beta", "delete"):
            point = chance.randrange(passed[what])
            delay = chance.choice(DELAYS_S)
            print(f"{what} at {point} of {passed[what]}, {delay} s later")
            losses += stage.lose_power(what, point, after_s=delay)
            if what == "delete":
                stage.check_gone()
                continue
            back = what == "beta" and chance.random() < 0.3
            stage.mend(
                "alpha" if back else what,
                doctored=chance.random() < 0.7,
                kept=what == "beta",
            )
    assert losses >= 10
