"""Who is in a group of cgroup v2, killed, frozen and counted, over a fake tree."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.cgroup import membership
from runtime.cgroup.group import Cgroup
from runtime.cgroup.stats import Stats
from runtime.cgroup.v2 import core
from runtime.errors import (
    NotFoundError,
    StateError,
)
from runtime.spec import Memory, Resources
from tests.support.cgroup_v2 import Host

MIB = 1 << 20


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


@contextlib.contextmanager
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    code = "import sys; print(flush=True); sys.stdin.read()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-IS", "-c", code], stdin=pipe, stdout=pipe) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child
        child.kill()


def test_members_of_nested_groups_count_and_strangers_to_our_pid_namespace_do_not(
    host: Host,
) -> None:
    host.make(cgroup_procs="10\n0\n")
    host.write(host.folder / "inner" / "most", {"cgroup.procs": "30\n10\n"})
    assert host.group.pids() == (10, 30)
    assert Cgroup(host.hierarchy, "bayplan-t/none").pids() == ()


def test_join_files_and_birth_folder(host: Host) -> None:
    assert host.group.join_files() == ()
    assert host.group.birth_folder() is None
    host.make()
    assert host.group.join_files() == (str(host.folder / "cgroup.procs"),)
    assert host.group.birth_folder() == str(host.folder)


def test_kill_is_one_write(host: Host) -> None:
    with sleeper() as child:
        host.make(cgroup_procs=f"{child.pid}\n")
        with pytest.raises(StateError, match=f"survive SIGKILL: {child.pid}"):
            host.group.kill(timeout_s=0.05)
        assert host.read("cgroup.kill") == "1"
        assert child.poll() is None


def test_kill_before_linux_5_14_freezes_kills_each_and_thaws(host: Host) -> None:
    with sleeper() as child:
        frozen = "populated 1\nfrozen 1\n"
        host.make(cgroup_kill=None, cgroup_procs=f"{child.pid}\n", cgroup_events=frozen)
        with pytest.raises(StateError, match=f"survive SIGKILL: {child.pid}"):
            host.group.kill(timeout_s=0.05)
        assert child.wait() == -signal.SIGKILL
        assert host.read("cgroup.freeze") == "0"


def test_kill_of_an_empty_group_and_of_none_does_nothing(host: Host) -> None:
    host.group.kill()
    host.make()
    host.group.kill()
    assert host.read("cgroup.kill") == ""


def test_kill_does_not_take_ourselves_along(host: Host) -> None:
    host.make(cgroup_procs=f"{os.getpid()}\n")
    with pytest.raises(StateError, match="this process is in it"):
        host.group.kill()


def test_freeze_and_thaw(host: Host) -> None:
    host.make(cgroup_events="populated 1\nfrozen 1\n")
    host.group.freeze()
    assert host.read("cgroup.freeze") == "1"
    assert host.group.is_frozen()
    host.group.thaw()
    assert host.read("cgroup.freeze") == "0"


def test_freeze_that_does_not_come_about_is_undone(host: Host) -> None:
    host.make()
    with pytest.raises(StateError, match=r"did not freeze within 0\.05 s"):
        host.group.freeze(timeout_s=0.05)
    assert host.read("cgroup.freeze") == "0"


def test_freeze_of_no_group(host: Host) -> None:
    with pytest.raises(NotFoundError):
        host.group.freeze()
    assert not host.group.is_frozen()


def test_delete_removes_nested_groups_first(host: Host) -> None:
    (host.folder / "inner" / "most").mkdir(parents=True)
    host.group.delete()
    assert not host.group.exists()
    assert host.parent.is_dir()
    host.group.delete()


def test_delete_of_a_group_with_members_names_them(host: Host) -> None:
    host.make(cgroup_procs="4711\n", cgroup_events="populated 1\nfrozen 0\n")
    with pytest.raises(StateError, match="cgroup bayplan-t/box still has processes: 4711"):
        host.group.delete(timeout_s=0.02)


def test_shared_parent_is_deleted_only_when_it_is_the_last(host: Host) -> None:
    (host.root / "bayplan-u" / "box").mkdir(parents=True)
    parent = Cgroup(host.hierarchy, "bayplan-u")
    parent.delete(nested=False)
    assert (host.root / "bayplan-u" / "box").is_dir()
    Cgroup(host.hierarchy, "bayplan-u/box").delete()
    parent.delete(nested=False)
    assert not parent.exists()


def test_stats(host: Host) -> None:
    host.make(
        memory_max=f"{64 * MIB}\n",
        memory_peak="9000\n",
        memory_swap_current="5\n",
        memory_stat="anon 1\ninactive_file 1000\n",
        memory_events="low 0\noom 3\noom_kill 2\n",
        cpu_stat="usage_usec 10\nuser_usec 7\nsystem_usec 3\n"
        "nr_periods 9\nnr_throttled 4\nthrottled_usec 6\n",
        pids_current="3\n",
        pids_max="100\n",
        io_stat="8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=9 dios=9\n8:16 rbytes=5 wios=1\n",
    )
    stats = host.group.stats()
    assert stats == Stats(
        cpu_ns=10_000,
        cpu_user_ns=7_000,
        cpu_system_ns=3_000,
        periods=9,
        throttled_periods=4,
        throttled_ns=6_000,
        memory_bytes=4096,
        memory_peak_bytes=9000,
        memory_limit_bytes=64 * MIB,
        memory_cache_bytes=1000,
        swap_bytes=5,
        oom_kills=2,
        pids=3,
        pids_limit=100,
        io_read_bytes=15,
        io_write_bytes=20,
        io_read_operations=1,
        io_write_operations=3,
    )
    assert stats.memory_used_bytes == 3096
    assert host.group.oom_kills() == 2


def test_stats_of_unlimited_and_of_no_group(host: Host) -> None:
    assert host.group.stats() == Stats()
    assert host.group.oom_kills() == 0
    host.make()
    stats = host.group.stats()
    assert (stats.memory_limit_bytes, stats.pids_limit, stats.cpu_ns) == (None, None, None)


def test_a_parent_that_comes_again_meanwhile_gets_its_controllers(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was on in the group of that name that went says nothing of its successor."""

    def last_one_out(_folder: str, _controllers: frozenset[str]) -> bool:
        host.parent.rename(tmp_path / "gone")
        files = {"cgroup.controllers": "cpu io memory pids\n", "cgroup.subtree_control": ""}
        host.write(host.parent, files)
        host.make(cgroup__controllers="")
        return True

    monkeypatch.setattr(core, "is_enabled", last_one_out)
    monkeypatch.setattr(membership, "_mkdir", lambda folder: folder == str(host.folder))
    host.group.create(Resources(memory=Memory(limit=64 * MIB)))
    assert "+memory" in (host.parent / "cgroup.subtree_control").read_text()
