"""A launch that is given up, as the supervisor sees it: told in time, collected when gone."""

import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from runtime.cgroup.group import Cgroup
from runtime.cgroup.hierarchy import Hierarchy
from runtime.errors import LaunchError
from runtime.root import Root
from runtime.spec import Process, Resources
from runtime.supervisor import child_process
from runtime.supervisor.child import Child
from runtime.supervisor.child_process import Starting
from runtime.supervisor.loop import Loop
from tests.support.box import Box
from tests.support.host import cannot
from tests.support.waiting import SLOWNESS

pytestmark = pytest.mark.kernel


class Site:
    """A loop that can launch, and what it was told."""

    def __init__(self, world: Path) -> None:
        self.box = Box(world / "box")
        self.loop = Loop()
        self.told: list[str] = []
        nothing = lambda *_: None  # noqa: E731
        self.gone: list[str] = []
        link = SimpleNamespace(
            intend=nothing, forked=nothing, announce=nothing, gone=self.gone.append
        )
        self.context = SimpleNamespace(loop=self.loop, link=link)

    def start(self, group: Cgroup, timeout: float) -> Starting:
        program = self.box.compile(self.box.spec("true"), cgroup_join=group.join_files())
        return Starting(
            self.context,
            "it",
            program,
            timeout=timeout,
            done=lambda launched: pytest.fail(f"{launched} runs"),
            failed=lambda error: self.told.append(str(error)),
        )

    def run_until(self, condition) -> None:
        """Let the loop run for a moment at a time."""
        while not condition():
            self.loop.call_later(0.01, self.loop.stop)
            self.loop._stopped = False
            self.loop.run()


@pytest.fixture
def site(world):
    site = Site(world)
    yield site
    site.loop.close()


@pytest.fixture
def frozen(world):
    """A group in which whoever joins stands still, on version 1 SIGKILL or not."""
    top = Root.at(world).cgroup
    group = Cgroup(Hierarchy.detect(), f"{top}/frozen")
    group.create(Resources())
    group.freeze()
    yield group
    group.kill()
    group.delete()
    Cgroup(group.hierarchy, top).delete(nested=False)


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def test_one_that_cannot_die_is_told_of_and_collected_when_it_can(site, frozen, monkeypatch):
    if "freezer" not in Hierarchy.detect().places:
        cannot("keep what is frozen from dying: version 1 of cgroups can")
    monkeypatch.setattr(child_process, "_DEATH_S", 0.1)
    before, fds = children(), set(os.listdir("/proc/self/fd"))
    patience = 0.1 * SLOWNESS
    site.start(frozen, timeout=patience)
    site.run_until(lambda: site.told)
    (text,) = site.told
    assert text.startswith(f"the launch did not get to exec within {patience:g} s; its process ")
    assert text.endswith(" survives SIGKILL")
    assert site.gone == ["it"]
    frozen.thaw()
    site.run_until(lambda: children() == before)
    assert site.told == [text]
    assert set(os.listdir("/proc/self/fd")) == fds


def test_one_that_is_abandoned_twice_fails_once(site, frozen):
    before = children()
    starting = site.start(frozen, timeout=60)
    starting.abandon("not wanted")
    starting.abandon("not wanted at all")
    frozen.thaw()
    site.run_until(lambda: site.told)
    assert site.told == ["not wanted"]
    assert children() == before


def test_a_sibling_killed_before_it_has_said_a_word_is_collected(world, monkeypatch):
    """As the end of a container kills what is just being put into it, and waits for that to go."""
    box = Box(world / "box")
    tell = Child.send

    def die(self, message, fds=()):
        if "forked" in message:
            os.kill(os.getpid(), signal.SIGKILL)
        tell(self, message, fds)

    monkeypatch.setattr(Child, "send", die)
    with box.running(box.spec("sleep", "100")) as target:
        for _ in range(5):
            with pytest.raises(LaunchError, match="died before it got to exec"):
                box.enter(target, Process(("true",), env=("PATH=/bin",)))
            children = Path("/proc/self/task").glob("*/children")
            pids = [pid for path in children for pid in path.read_text().split()]
            assert pids == [str(target.pid)]
