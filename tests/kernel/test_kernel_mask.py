"""What is done without features of the kernel, on one that has them: BAYPLAN_KERNEL_MASK."""

import os
import signal
import subprocess
import sys

import pytest

from runtime.cgroup.v2 import core, memory
from runtime.kernel import mask, selfexe
from runtime.supervisor import exits, strays
from tests.support.cli import COMMAND
from tests.support.host import cannot
from tests.support.manifests import HEAD
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kernel


@pytest.fixture
def without(monkeypatch):
    return lambda *features: monkeypatch.setattr(mask, "_masked", frozenset(features))


def run(bayplan, masked: str, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*COMMAND, *words],
        env=bayplan.environment | {"BAYPLAN_KERNEL_MASK": masked},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done


def test_containers_run_without_any_of_them(bayplan, tmp_path):
    bayplan.apply(HEAD)
    everything = ",".join(mask.FEATURES)
    words = ("run", "--rm", "--network", "none", "test/box", "cat", "/proc/self/mountinfo")
    # A supervisor keeps to the mask it was started with; each of these starts one.
    assert "lowerdir" in run(bayplan, "", *words).stdout
    wait_until(lambda: not (bayplan.folder / "run/supervisor.lock").exists())
    assert "lowerdir=" in run(bayplan, everything, *words).stdout
    run(bayplan, everything, "run", "-d", "--name", "p", *words[2:5], "sleep", "100")
    (tmp_path / "file").write_text("copied")
    run(bayplan, everything, "cp", str(tmp_path / "file"), "p:/file")
    said = run(bayplan, everything, "exec", "p", "sh", "-c", "cat /file; ls -a /").stdout
    assert said.startswith("copied")
    assert ".bayplan-" not in said
    run(bayplan, everything, "rm", "-f", "p")
    bayplan.delete("test")


def test_what_there_is_not_cannot_be_masked(bayplan):
    said = run(bayplan, "cgroup.kill,open_treee", "ps", code=64).stderr
    assert "no open_treee among" in said
    done = subprocess.run(
        [sys.executable, "-c", "from runtime.cli.main import main; main(['list'])"],
        env=bayplan.environment | {"BAYPLAN_KERNEL_MASK": "nothing"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "no nothing among" in done.stderr) == (1, True)


def test_without_the_kernels_word_nobody_knows_how_it_ended(without):
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 7"], {})
    pidfd = os.pidfd_open(pid)
    try:
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        if exits.recall(pidfd) is None:
            cannot("tell the exit code of what was reaped: Linux 6.15")
        assert exits.recall(pidfd) == 7
        without(mask.PIDFD_INFO_EXIT)
        assert exits.recall(pidfd) is None
    finally:
        os.close(pidfd)


def test_without_executable_memfds_plain_ones_do(without):
    without(mask.MFD_EXEC)
    fd = selfexe.sealed_interpreter()
    try:
        done = subprocess.run(
            [f"/proc/self/fd/{fd}", "-I", "-S", "-c", "print(6)"],
            pass_fds=(fd,),
            capture_output=True,
        )
        assert done.stdout == b"6\n"
    finally:
        os.close(fd)


def test_without_files_to_say_so_members_are_killed_one_by_one(without, tmp_path):
    sleepers = [subprocess.Popen(["sleep", "1000"]) for _ in range(3)]
    (tmp_path / "cgroup.procs").write_text("".join(f"{each.pid}\n" for each in sleepers))
    (tmp_path / "cgroup.kill").write_text("")
    strays.kill_members([str(tmp_path / "cgroup.procs")])
    assert (tmp_path / "cgroup.kill").read_text() == "1"
    assert core.kill(str(tmp_path))
    without(mask.CGROUP_KILL)
    assert not core.kill(str(tmp_path))
    strays.kill_members([str(tmp_path / "cgroup.procs")])
    assert [each.wait(10) for each in sleepers] == [-signal.SIGKILL] * 3


def test_without_reclaim_a_limit_below_use_is_refused_at_once(without, tmp_path):
    (tmp_path / "memory.current").write_text("100")
    (tmp_path / "memory.reclaim").write_text("")
    with pytest.raises(Exception, match="100 are in use"):
        memory._make_room(str(tmp_path), 60)
    assert (tmp_path / "memory.reclaim").read_text() == "40"
    (tmp_path / "memory.reclaim").write_text("")
    without(mask.MEMORY_RECLAIM)
    with pytest.raises(Exception, match="100 are in use"):
        memory._make_room(str(tmp_path), 60)
    assert (tmp_path / "memory.reclaim").read_text() == ""
