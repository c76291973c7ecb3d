"""Who is in a group of the real hierarchies: found, killed, frozen and counted, until it goes."""

import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runtime.cgroup.group import Cgroup, list_groups
from runtime.errors import StateError
from runtime.spec import (
    Memory,
    Pids,
    Resources,
)
from tests.support.livegroup import HOST, LIMITS, MIB, group_of, member
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kernel


@pytest.fixture
def group(world: Path) -> Iterator[Cgroup]:
    with group_of(world) as made:
        yield made


def test_members_join_are_listed_and_counted(group: Cgroup) -> None:
    group.create(LIMITS)
    with member(group, "sum(range(3_000_000))") as child:
        assert group.pids() == (child.pid,)
        stats = group.stats()
        assert stats.pids == 1
        assert (stats.cpu_ns or 0) > 1_000_000
        assert (stats.memory_peak_bytes or 0) >= (stats.memory_bytes or 0) > 0
        assert stats.oom_kills == 0


def test_kill_reaches_children_and_leaves_nobody(group: Cgroup) -> None:
    group.create(LIMITS)
    children = "import signal\nfor _ in range(5): os.fork() or signal.pause()"
    with member(group, children):
        assert len(group.pids()) == 6
        group.kill()
        assert group.pids() == ()
        group.kill()


def test_kill_wins_against_a_fork_bomb(group: Cgroup) -> None:
    group.create(LIMITS)
    bomb = "pid = os.fork()\nwhile pid == 0:\n  try: os.fork()\n  except OSError: pass"
    with member(group, bomb):
        wait_until(lambda: len(group.pids()) > 20)
        group.kill()
        assert group.pids() == ()
    group.delete()


def test_kill_takes_frozen_members(group: Cgroup) -> None:
    group.create(LIMITS)
    with member(group) as child:
        group.freeze()
        group.kill()
        assert child.wait() == -signal.SIGKILL


def test_freeze_stops_and_thaw_goes_on(group: Cgroup) -> None:
    group.create(LIMITS)
    with member(group) as child:
        assert child.stdin is not None
        group.freeze()
        group.freeze()
        assert group.is_frozen()
        child.stdin.close()
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(timeout=0.1)
        group.thaw()
        assert not group.is_frozen()
        assert child.wait(timeout=5) == 0


def test_oom_kill_is_counted(group: Cgroup) -> None:
    resources = Resources(memory=Memory(limit=32 * MIB, swap=32 * MIB))
    group.create(resources)
    assert group.oom_kills() == 0
    pid = (
        "pid = os.fork()\nif pid == 0: keep = bytearray(os.urandom(1)) * (64 << 20); os._exit(0)\n"
    )
    with member(group, pid + "os.waitpid(pid, 0)"):
        assert group.oom_kills() == 1
        assert group.stats().oom_kills == 1


def test_pids_limit_holds(group: Cgroup) -> None:
    group.create(Resources(pids=Pids(1)))
    fork = "\ntry: os.fork()\nexcept BlockingIOError: pass\nelse: raise SystemExit('forked')"
    with member(group, fork):
        assert len(group.pids()) == 1


def test_delete_names_the_members_and_kills_nobody(group: Cgroup) -> None:
    group.create(LIMITS)
    with member(group) as child:
        with pytest.raises(StateError, match=f"still has processes: {child.pid}"):
            group.delete(timeout_s=0.05)
        assert child.poll() is None
    group.delete()
    assert not group.exists()
    group.delete()


def test_delete_right_after_kill(group: Cgroup) -> None:
    """Members are gone from the list a moment before the kernel lets the folder go."""
    for _ in range(5):
        group.create(LIMITS)
        with member(group):
            group.kill()
            group.delete()
            assert not group.exists()


def test_groups_made_inside_are_counted_killed_and_removed(group: Cgroup) -> None:
    group.create(LIMITS)
    inner = [Path(path).parent / "inner" for path in group.join_files()]
    for path in inner:
        (path / "most").mkdir(parents=True)
    nested = Cgroup(HOST, f"{group.name}/inner/most")
    with member(nested) as child:
        assert group.pids() == (child.pid,)
        group.kill()
        assert child.wait() == -signal.SIGKILL
    group.delete()
    assert not any(path.exists() for path in inner)


def test_shared_parent_goes_with_the_last_group(group: Cgroup) -> None:
    group.create(LIMITS)
    name = group.name.split("/")[0]
    parent = Cgroup(HOST, name)
    assert list_groups(HOST, name) == ("box",)
    parent.delete(nested=False)
    assert group.deviations(LIMITS) == ()
    group.delete()
    parent.delete(nested=False)
    assert not parent.exists()


def test_tracking_puts_the_supervisor_into_every_hierarchy(group: Cgroup) -> None:
    group.create(Resources(), tracking=True)
    joined = {os.path.dirname(os.path.dirname(os.path.dirname(f))) for f in group.join_files()}
    assert {*HOST.named, HOST.unified} - {None} <= joined
    with member(group) as child:
        lines = Path(f"/proc/{child.pid}/cgroup").read_text().splitlines()
        outside = {line.split(":")[1] for line in lines if group.name not in line}
        assert not outside & {*HOST.always, "name=systemd", ""}


def test_last_one_out_and_first_one_in_do_not_meet(group: Cgroup) -> None:
    """Containers come and go side by side, each taking the shared parent along if it can."""
    parent = group.name.split("/")[0]

    def come_and_go(who: int) -> list[object]:
        found: list[object] = []
        for number in range(60):
            box = Cgroup(HOST, f"{parent}/{who}-{number}")
            box.create(LIMITS)
            found += box.deviations(LIMITS)
            box.delete()
            Cgroup(HOST, parent).delete(nested=False)
        return found

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(come_and_go, range(3))) == [[], [], []]
    assert not Cgroup(HOST, parent).exists()
