"""A launch, seen by the process that was launched."""

import ctypes
import errno
import json
import os
import signal
import struct
import subprocess
import sys

import pytest

from runtime.container.defaults import default_capabilities, default_mounts
from runtime.kernel.capability import host_bounding, to_mask
from runtime.kernel.seccomp_default import default_profile
from runtime.spec import Capabilities, Namespace, Rlimit, Seccomp, SyscallRule, User
from runtime.supervisor.interpreter import start
from tests.support.box import Box, collect, with_process
from tests.support.host import cannot

pytestmark = pytest.mark.kernel
RT_SIGACTION = {"x86_64": 13}.get(os.uname().machine, 134)


@pytest.fixture
def box(world):
    return Box(world)


def test_the_process_is_alone_in_a_world_of_its_own(box):
    result = box.sh(
        "echo $$; hostname; ps >/tmp/ps; wc -l </tmp/ps; ls /; cat /proc/self/cgroup | grep -v :/$"
    )
    lines = result.out.splitlines()
    # ps shows its header, the shell and itself.
    assert lines[:3] == ["1", "box", "3"]
    assert set(lines[3:]) == {"bin", "dev", "etc", "proc", "sys", "tmp"}


def test_exit_codes_come_through(box):
    assert box.sh("exit 42").code == 42
    assert box.run(box.spec("sh", "-c", "kill -9 $$"), init=True).code == 128 + 9


def test_the_environment_and_arguments_are_the_specs_only(box, monkeypatch):
    monkeypatch.setenv("CANARY", "host")
    assert box.run(box.spec("sh", "-c", 'echo "$0|$1"', "a b", "")).out == "a b|\n"
    env = ("PATH=/bin", "A=1", "A=2=3", "BROKEN")
    spec = with_process(box.spec("cat", "/proc/self/environ"), env=env)
    assert box.run(spec).out == "PATH=/bin\0A=2=3\0"


def test_only_the_standard_streams_are_open(box, tmp_path):
    with open(tmp_path / "secret", "w") as secret:
        os.set_inheritable(secret.fileno(), True)
        result = box.sh("ls /proc/self/fd; readlink /proc/self/fd/0")
    # 3 is what ls itself opened.
    assert result.out.split() == ["0", "1", "2", "3", "/dev/null"]


def test_streams_given_in_any_order_arrive(box):
    """Descriptors of the caller may be the numbers they must become, crosswise."""
    script = """
import json, os, sys
sys.path.insert(0, %r)
from runtime.kernel.program import Program
from runtime.supervisor.interpreter import launch
program = Program.from_json(json.load(open(sys.argv[1])))
read, write = os.pipe()
os.write(write, b"to stdin\\n")
os.dup2(read, 1); os.dup2(2, 0); os.close(write); os.close(read)
launched = launch(program, stdin=1, stdout=0, stderr=0)
os.waitid(os.P_PIDFD, launched.pidfd, os.WEXITED)
"""
    program = box.folder / "program.json"
    program.write_text(json.dumps(box.compile(box.spec("cat")).to_json()))
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script % os.getcwd(), program],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "to stdin\n"


def test_user_groups_and_umask(box):
    user = User(1000, 1001, umask=0o077, additional_gids=(7, 8))
    result = box.sh("id; umask; touch /tmp/x || echo no", user=user)
    assert result.out.splitlines() == [
        "uid=1000 gid=1001 groups=7,8",
        "0077",
        "touch: /tmp/x: Permission denied",
        "no",
    ]


def test_roots_capabilities_are_the_defaults(box):
    seen = box.status(box.spec("cat", "/proc/self/status"))
    wanted = to_mask(box.spec("x").process.capabilities.bounding)
    assert {int(seen[f"Cap{s}"], 16) for s in ("Prm", "Eff", "Bnd")} == {wanted}
    assert int(seen["CapInh"], 16) == int(seen["CapAmb"], 16) == 0
    assert seen["NoNewPrivs"].strip() == "1"


def test_another_user_holds_ambient_capabilities_only(box):
    held = ("CAP_NET_BIND_SERVICE",)
    spec = box.spec("cat", "/proc/self/status", user=User(1000, 1000))
    assert int(box.status(spec)["CapEff"], 16) == 0
    spec = with_process(spec, capabilities=Capabilities(*[held] * 5))
    assert {int(box.status(spec)[f"Cap{s}"], 16) for s in ("Prm", "Eff", "Inh", "Amb")} == {
        to_mask(held)
    }


def test_a_capability_the_host_lacks_is_warned_about(box, monkeypatch):
    spec = box.spec("grep", "CapBnd", "/proc/self/status")
    spec = with_process(spec, capabilities=Capabilities(bounding=("CAP_KILL", "CAP_SYS_RESOURCE")))
    lacking = to_mask(("CAP_SYS_RESOURCE",))
    if host_bounding() & lacking:
        cannot("show it: root has CAP_SYS_RESOURCE")
    result = box.run(spec)
    assert int(result.out.split()[1], 16) == to_mask(("CAP_KILL",))
    (warning,) = result.warnings
    assert "CAP_SYS_RESOURCE" in warning


def test_signals_are_default_and_unblocked(box):
    seen = box.status(box.spec("cat", "/proc/self/status"))
    assert int(seen["SigBlk"], 16) == int(seen["SigIgn"], 16) == 0


@pytest.mark.usefixtures("signal_32_ignored")
def test_signals_the_c_library_hides_are_default_too(box):
    seen = box.status(box.spec("cat", "/proc/self/status"))
    assert int(seen["SigIgn"], 16) == 0


@pytest.fixture
def signal_32_ignored():
    """Signal 32, which sigaction(3) refuses to touch, ignored as some CI runners leave it."""
    libc = ctypes.CDLL(None, use_errno=True)
    ignore, before = struct.pack("=4Q", 1, 0, 0, 0), ctypes.create_string_buffer(32)
    assert libc.syscall(RT_SIGACTION, 32, ignore, before, 8) == 0
    yield
    assert libc.syscall(RT_SIGACTION, 32, before, None, 8) == 0


def test_resource_limits(box):
    limits = (Rlimit("RLIMIT_NOFILE", 100, 200), Rlimit("RLIMIT_CORE", 0, 0))
    spec = with_process(box.spec("sh", "-c", "ulimit -n; ulimit -c"), rlimits=limits)
    assert box.run(spec).out.split() == ["100", "0"]


def test_a_limit_this_root_may_not_set_is_lowered_with_a_warning(box):
    if host_bounding() & to_mask(("CAP_SYS_RESOURCE",)):
        cannot("show it: root has CAP_SYS_RESOURCE")
    spec = box.spec("sh", "-c", "ulimit -Hn")
    spec = with_process(spec, rlimits=(Rlimit("RLIMIT_NOFILE", 1 << 29, 1 << 29),))
    result = box.run(spec)
    assert 0 < int(result.out) < 1 << 29
    assert "RLIMIT_NOFILE" in result.warnings[0]


def test_oom_score(box):
    spec = with_process(box.spec("cat", "/proc/self/oom_score_adj"), oom_score_adj=500)
    assert box.run(spec).out == "500\n"


def test_sysctls_of_its_own_namespaces(box):
    result = box.sh(
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shmmni;"
        "echo 1 > /proc/sys/kernel/shmmni",
        linux={"sysctl": {"net.ipv4.ip_unprivileged_port_start": "7", "kernel/shmmni": "99"}},
    )
    assert result.out.startswith("7\n99\n")
    assert "Read-only file system" in result.out


def test_loopback_is_up(box):
    assert box.sh("cat /sys/class/net/lo/flags").out == "0x9\n"


def test_the_working_directory_is_made(box):
    spec = with_process(box.spec("sh", "-c", "pwd; stat -c %a ."), cwd="/new/place")
    assert box.run(spec).out == "/new/place\n755\n"


def test_it_is_in_its_cgroups_and_sees_them(box, world):
    groups = [f"/sys/fs/cgroup/{c}/bayplan-launch-{os.getpid()}" for c in ("pids", "memory")]
    if not all(os.path.isdir(os.path.dirname(group)) for group in groups):
        cannot("no version 1 cgroups here")
    for group in groups:
        os.mkdir(group)
    try:
        result = box.run(
            box.spec("sh", "-c", "cat /sys/fs/cgroup/pids/tasks /proc/self/cgroup; mount"),
            cgroup_join=[f"{group}/tasks" for group in groups],
        )
        lines = result.out.splitlines()
        assert lines[0] == "1"
        assert any(line.endswith(":pids:/") for line in lines)
        assert any("on /sys/fs/cgroup/memory type cgroup (ro," in line for line in lines)
    finally:
        for group in groups:
            os.rmdir(group)


def test_it_is_born_into_a_version_2_cgroup(box):
    top = next((t for t in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
                if os.path.exists(f"{t}/cgroup.procs")), None)  # fmt: skip
    if top is None:
        cannot("no version 2 cgroups here")
    group = f"{top}/bayplan-launch-{os.getpid()}"
    os.mkdir(group)
    try:
        with box.running(box.spec("sleep", "9"), cgroup_join=[f"{group}/cgroup.procs"]) as it:
            with open(f"{group}/cgroup.procs") as file:
                assert file.read() == f"{it.pid}\n"
            with open(f"/proc/{it.pid}/cgroup") as file:
                assert f"0::{group.removeprefix(top)}\n" in file.readlines()
    finally:
        os.rmdir(group)


def test_namespaces_can_be_shared(box):
    with box.running(box.spec("sleep", "61")) as target:
        kinds = {"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts"}
        namespaces = [Namespace(k, f"/proc/{target.pid}/ns/{f}") for k, f in kinds.items()]
        spec = box.spec("ps", linux={"namespaces": (*namespaces, Namespace("mount"))})
        other = Box(box.folder / "other")
        assert "sleep 61" in other.run(spec).out


def test_a_container_has_a_console(box):
    script = "tty; ls -l /dev/console | head -c 3; sleep 60"
    with box.running(box.spec("sh", "-c", script, process={"terminal": True})) as it:
        text = b""
        while b"crw" not in text:
            text += os.read(it.terminal, 100)
    assert text.startswith(b"/dev/pts/0\r\n")


def test_the_system_call_filter_holds(box):
    rule = SyscallRule(("mkdir", "mkdirat"), "SCMP_ACT_ERRNO", errno_ret=errno.EDOM)
    profile = Seccomp("SCMP_ACT_ALLOW", syscalls=(rule,))
    script = "grep Seccomp: /proc/self/status; mkdir /x"
    result = box.sh(script, linux={"seccomp": profile})
    assert result.out.split("\n")[0] == "Seccomp:\t2"
    assert "argument out of domain" in result.out.lower()


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_the_default_filter_lets_a_shell_work(box, no_new_privileges):
    process = {"no_new_privileges": no_new_privileges}
    profile = default_profile(frozenset(box.spec("x").process.capabilities.bounding))
    script = "echo $(echo nested) > /tmp/x; cat /tmp/x; mount -t tmpfs none /tmp"
    result = box.sh(script, linux={"seccomp": profile}, process=process)
    assert result.out.startswith("nested\n")
    assert result.code != 0


def test_a_privileged_container_holds_everything_the_host_has(box):
    everything = default_capabilities(privileged=True)
    script = "mount -t tmpfs none /tmp && grep CapEff /proc/self/status; echo > /sys/kernel/notes"
    spec = box.spec(
        "sh",
        "-c",
        script,
        mounts=default_mounts(privileged=True),
        linux={"masked_paths": (), "readonly_paths": ()},
    )
    result = box.run(with_process(spec, capabilities=everything))
    assert int(result.out.split()[1], 16) == host_bounding()
    assert "Read-only" not in result.out


def test_its_session_is_its_own(box):
    """Else a signal to its process group would reach the supervisor's."""
    # Members 5 and 6 of stat(5): process group and session.
    assert box.run(box.spec("cat", "/proc/self/stat")).out.split()[4:6] == ["1", "1"]


def test_launches_may_overlap(box):
    other = Box(box.folder / "other")
    started = [start(b.compile(b.spec("sleep", "60"))) for b in (box, other)]
    for launched in [s.finish() for s in reversed(started)]:
        signal.pidfd_send_signal(launched.pidfd, signal.SIGKILL)
        assert collect(launched) == 128 + 9
