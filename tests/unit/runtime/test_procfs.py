"""/proc formats, with the inputs that break naive parsers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.kernel import procfs

MOUNTINFO = (
    "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue\n"
    "40 36 0:50 / /with\\040blank\\011tab\\012line\\134slash rw - tmpfs none\\040x rw,size=1k\n"
    "41 36 0:51 /../../deep /sys/fs/cgroup/cpu ro,relatime - cgroup cgroup rw,cpu,cpuacct\n"
)

STATUS = """\
Name:\tevil\\nUid:\\t0
State:\tS (sleeping)
Tgid:\t77
PPid:\t1
Uid:\t1000\t1001\t1002\t1003
Gid:\t5\t6\t7\t8
Groups:\t4 24
NSpid:\t77\t1
VmRSS:\t    2048 kB
Threads:\t3
CapInh:\t0000000000000000
CapPrm:\t00000000a80425fb
CapEff:\t00000000a80425fb
CapBnd:\t00000000a80425fb
CapAmb:\t0000000000000000
NoNewPrivs:\t1
Seccomp:\t2
Seccomp_filters:\t1
"""


def test_mountinfo_fields_and_optional_fields() -> None:
    first, _, last = procfs.parse_mountinfo(MOUNTINFO)
    assert first == procfs.MountInfo(
        id=36,
        parent_id=35,
        device="98:0",
        root="/mnt1",
        mount_point="/mnt2",
        options=("rw", "noatime"),
        propagation=("master:1", "shared:2"),
        fstype="ext3",
        source="/dev/root",
        super_options=("rw", "errors=continue"),
    )
    assert last.root == "/../../deep"
    assert last.super_options == ("rw", "cpu", "cpuacct")
    assert last.propagation == ()


def test_mountinfo_escapes_are_undone() -> None:
    _, escaped, _ = procfs.parse_mountinfo(MOUNTINFO)
    assert escaped.mount_point == "/with blank\ttab\nline\\slash"
    assert escaped.source == "none x"


def test_mountinfo_of_this_process() -> None:
    mounts = procfs.read_mountinfo()
    assert mounts is not None
    assert "/proc" in {mount.mount_point for mount in mounts if mount.fstype == "proc"}


@pytest.mark.parametrize("comm", ["sh", "a b", "x) R 1 (", "((", "))", "new\nline"])
def test_stat_survives_any_command_name(comm: str) -> None:
    fields = " ".join(str(number) for number in range(4, 53))
    stat = procfs.parse_stat(f"1234 ({comm}) S {fields}\n")
    assert stat == procfs.Stat(1234, comm, "S", ppid=4, start_ticks=22, flags=9, exit_status=52)


def test_stat_of_a_child_with_a_nasty_name(tmp_path: Path) -> None:
    """The kernel takes the name from the file: fifteen bytes of it."""
    nasty = tmp_path / "a) Z 9 (b"
    nasty.symlink_to(sys.executable)
    code = "import sys; sys.stdin.read()"
    with subprocess.Popen([nasty, "-I", "-S", "-c", code], stdin=subprocess.PIPE) as child:
        stat = procfs.read_stat(child.pid)
        assert stat is not None
        assert (stat.comm, stat.ppid) == ("a) Z 9 (b", os.getpid())
        assert procfs.start_ticks(child.pid) == stat.start_ticks
        assert procfs.is_running(child.pid, stat.start_ticks)
        assert not procfs.is_running(child.pid, stat.start_ticks + 1)
        assert child.stdin is not None
        child.stdin.close()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        zombie = procfs.read_stat(child.pid)
        assert zombie is not None
        assert zombie.state == "Z"
        assert not procfs.is_running(child.pid, stat.start_ticks)
    assert procfs.read_stat(child.pid) is None


def test_status_fields() -> None:
    status = procfs.parse_status(STATUS)
    assert status.uids == (1000, 1001, 1002, 1003)
    assert status.gids == (5, 6, 7, 8)
    assert status.groups == (4, 24)
    assert status.namespace_pids == (77, 1)
    assert status.rss_bytes == 2048 * 1024
    assert status.capabilities["bounding"] == 0xA80425FB
    assert (status.state, status.ppid, status.threads) == ("S", 1, 3)
    assert (status.no_new_privileges, status.seccomp, status.seccomp_filters) == (True, 2, 1)


def test_status_of_this_process() -> None:
    status = procfs.read_status("self")
    assert status is not None
    assert status.uids[1] == os.geteuid()
    assert status.namespace_pids[0] == os.getpid()
    assert status.rss_bytes > 1024 * 1024


def test_cgroup_membership() -> None:
    text = "4:memory:/a:b\n3:cpu,cpuacct:/c\n1:name=systemd:/s\n0::/u (deleted)\n"
    assert procfs.parse_cgroup(text) == {
        "memory": "/a:b",
        "cpu": "/c",
        "cpuacct": "/c",
        "name=systemd": "/s",
        "": "/u (deleted)",
    }
    assert procfs.read_cgroup()


def test_a_process_that_is_gone_is_an_answer(tmp_path: Path) -> None:
    """Also when it goes between the listing and the reading."""
    (tmp_path / "7").mkdir()
    (tmp_path / "self").mkdir()
    proc = str(tmp_path)
    assert procfs.read_stat(7, proc=proc) is None
    assert procfs.start_ticks(7, proc=proc) is None
    assert procfs.read_status(7, proc=proc) is None
    assert procfs.read_cgroup(7, proc=proc) is None
    assert procfs.read_mountinfo(7, proc=proc) is None
    assert not procfs.is_running(7, 1, proc=proc)


def test_other_root_directory(tmp_path: Path) -> None:
    (tmp_path / "9").mkdir()
    fields = " ".join(str(number) for number in range(4, 53))
    (tmp_path / "9" / "stat").write_text(f"9 (x) R {fields}\n")
    (tmp_path / "9" / "mountinfo").write_text(MOUNTINFO)
    assert procfs.start_ticks(9, proc=str(tmp_path)) == 22
    mounts = procfs.read_mountinfo(9, proc=str(tmp_path))
    assert mounts is not None
    assert len(mounts) == 3


def test_names_with_bytes_that_end_lines_elsewhere_forge_nothing(tmp_path: Path) -> None:
    real = Path("/proc/self/status").read_text().replace("Name:\t", "Name:\ta\x0bVmRSS:\tx", 1)
    assert procfs.parse_status(real).rss_bytes > 0
    (tmp_path / "7/net").mkdir(parents=True)
    line = "b\x1cx: 5 0 0 0 0 0 0 0 6 0 0 0 0 0 0 0\n"
    (tmp_path / "7/net/dev").write_text(f"Inter-|\n face |\n{line}")
    assert procfs.read_traffic(7, proc=str(tmp_path)) == {"b\x1cx": (5, 6)}
