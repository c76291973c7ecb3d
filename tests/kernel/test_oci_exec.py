"""Processes put into a running container by the OCI command line."""

import ctypes
import json
import os
import pty
import subprocess
import time
from pathlib import Path

import pytest

from runtime.cgroup.hierarchy import Hierarchy
from runtime.kernel.capability import to_mask
from tests.support.bundle import ID, bundle_in
from tests.support.host import cannot
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kernel


@pytest.fixture
def bundle(world):
    with bundle_in(world) as made:
        made.config["process"]["env"] = ["PATH=/bin", "A=1"]
        made.start()
        yield made


def test_it_runs_in_the_containers_namespaces_and_cgroup(bundle):
    script = "hostname; cat /proc/1/comm; echo $A; cat /proc/self/cgroup | grep -c /$"
    host, init, a, rooted = bundle.do("exec", ID, "sh", "-c", script).split()
    assert (host, init, a) == ("box", "sleep", "1")
    assert int(rooted) > 0


def test_its_code_and_errors_come_through(bundle):
    assert bundle.call("exec", ID, "sh", "-c", "exit 9").returncode == 9
    assert bundle.call("exec", ID, "sh", "-c", "kill -9 $$").returncode == 128 + 9
    done = bundle.call("exec", ID, "nothing")
    assert done.returncode == 127
    assert bundle.call("exec", ID, "").returncode == 127
    assert "executable file not found in $PATH" in done.stderr
    (bundle.path / "rootfs/bin/data").write_text("x")
    assert bundle.call("exec", ID, "/bin/data").returncode == 126
    assert bundle.call("exec", "--pid-file", "/no/such/folder", ID, "true").returncode == 255


def test_options_of_the_process(bundle):
    words = ("--env", "B=2", "-e", "A=3", "--cwd", "/tmp", "--user", "1000:1001")
    out = bundle.do("exec", *words, ID, "sh", "-c", "echo $A$B; pwd; id; echo $HOME")
    assert out.splitlines() == ["32", "/tmp", "uid=1000 gid=1001", "/"]
    # A number alone is no account, as with runc and crun.
    (bundle.path / "rootfs/etc/passwd").write_text("u:x:1000:55::/home/u:/bin/sh\n")
    assert bundle.do("exec", "-u", "1000", ID, "id", "-g") == "0\n"
    assert bundle.do("exec", "-u", "u", ID, "id", "-g") == "55\n"
    assert "for a process with a terminal" in bundle.fails(
        "exec", "--detach", "--console-socket", "/nowhere", ID, "true"
    )
    assert "no user nobody" in bundle.fails("exec", "--user", "nobody", ID, "true")


def test_options_after_the_id_are_the_programs(bundle):
    assert bundle.do("exec", ID, "echo", "--user", "-e").split() == ["--user", "-e"]


def test_a_process_from_a_file(bundle, tmp_path):
    held = ["CAP_KILL"]
    process = {
        "args": ["sh", "-c", "id -G; umask; grep -E 'Cap(Bnd|Eff)|NoNew' /proc/self/status"],
        "env": ["PATH=/bin"],
        "cwd": "/",
        "user": {"uid": 0, "gid": 0, "additionalGids": [7, 8], "umask": 0o77},
        "capabilities": {"bounding": held, "effective": held, "permitted": held},
        "noNewPrivileges": True,
    }
    (tmp_path / "process.json").write_text(json.dumps(process))
    out = bundle.do("exec", "--process", str(tmp_path / "process.json"), ID).splitlines()
    assert out[:2] == ["0 7 8", "0077"]
    seen = dict(line.split(":\t") for line in out[2:])
    assert {int(seen[n], 16) for n in ("CapEff", "CapBnd")} == {to_mask(held)}
    assert seen["NoNewPrivs"] == "1"


def test_detached_it_outlives_the_command(bundle, tmp_path):
    quiet = {"capture_output": False, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    pid_file = tmp_path / "pid"
    words = ("exec", "--detach", "--pid-file", str(pid_file), ID, "sleep", "1000")
    bundle.do(*words, **quiet)
    pid = int(pid_file.read_text())
    assert pid in json.loads(bundle.do("ps", "-f", "json", ID))
    os.kill(pid, 9)


def test_what_cannot_be_handed_out_is_not_left_running(bundle):
    words = ("exec", "--detach", "--pid-file", "/no/such/folder/pid", ID, "sleep", "1000")
    quiet = {"stdout": subprocess.DEVNULL, "capture_output": False}
    assert bundle.call(*words, stderr=subprocess.DEVNULL, **quiet).returncode == 255
    assert len(json.loads(bundle.do("ps", "-f", "json", ID))) == 1


def test_a_file_descriptor_of_the_host_is_no_working_directory(bundle):
    """CVE-2024-21626: /proc/self/fd/N as working directory led to the host."""
    fd = os.open("/", os.O_RDONLY)
    os.set_inheritable(fd, True)
    try:
        for number in (*range(3, 12), fd):
            words = ("exec", "--cwd", f"/proc/self/fd/{number}", ID, "ls")
            assert "root" not in bundle.call(*words, close_fds=False).stdout.split()
    finally:
        os.close(fd)


def test_nobody_in_the_container_can_get_at_what_enters_it(bundle):
    """CVE-2019-5736: nobody can write to the executable of what enters."""
    (bundle.path / "rootfs/bin/self").write_text("#!/proc/self/exe\n")
    (bundle.path / "rootfs/bin/self").chmod(0o755)
    before = os.stat(os.path.realpath("/proc/self/exe"))
    bundle.call("exec", ID, "/bin/self")
    watch = (
        "while :; do for p in /proc/[0-9]*; do [ $p = /proc/1 ] || [ $p = /proc/$$ ] ||"
        " { : >> $p/exe; } 2>/dev/null && readlink $p/exe; done; done"
    )
    arguments = [*bundle.command(), "exec", ID, "sh", "-c", watch]
    with subprocess.Popen(arguments, cwd=bundle.path, stdout=subprocess.PIPE) as watching:
        time.sleep(0.3)
        for _ in range(5):
            bundle.do("exec", ID, "true")
        watching.kill()
        bundle.do("kill", "--all", ID, "KILL")
        assert b"python" not in watching.stdout.read()
    assert os.stat(os.path.realpath("/proc/self/exe")).st_mtime == before.st_mtime


def test_additional_groups_are_numbers(bundle):
    assert bundle.do("exec", "-g", "7", "-g", "8,9", ID, "id", "-G").split() == ["0", *"789"]
    assert "numbers, not wheel" in bundle.fails("exec", "-g", "wheel", ID, "true")


def test_a_signal_to_all_reaches_each_once(bundle):
    script = "n=0; trap 'n=$((n+1)); echo $n > /tmp/$0' USR1; echo 0 > /tmp/$0; while :; do :; done"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "capture_output": False}
    places = [bundle.path / "rootfs/tmp" / name for name in "ab"]
    for place in places:
        bundle.do("exec", "--detach", ID, "sh", "-c", script, place.name, **quiet)
    _wait_for(places, "0\n")
    bundle.do("kill", "--all", ID, "USR1")
    _wait_for(places, "1\n")
    time.sleep(0.3)
    _wait_for(places, "1\n")


def _wait_for(places, text: str) -> None:
    wait_until(lambda: all(p.exists() and p.read_text() == text for p in places))


def test_a_group_below_the_containers(bundle):
    for group in bundle.groups():
        os.mkdir(f"{group}/below")
    assert "/below" in bundle.do("exec", "--cgroup", "pids:/below", ID, "cat", "/proc/self/cgroup")
    assert "not a sub cgroup path" in bundle.fails("exec", "--cgroup", "..", ID, "true")
    assert "no such file" in bundle.fails("exec", "--cgroup", "nowhere", ID, "true")
    assert "unknown controller" in bundle.fails("exec", "--cgroup", "what:/", ID, "true")


def test_a_paused_container_is_entered_only_when_asked_for(bundle):
    bundle.do("pause", ID)
    assert "paused" in bundle.fails("exec", ID, "true")
    command = [*bundle.command(), "exec", "--ignore-paused", ID, "echo", "awake"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as waiting:
        bundle.do("resume", ID)
        assert waiting.communicate(timeout=60)[0] == "awake\n"


@pytest.mark.parametrize("has", [True, False])
def test_no_new_privs_are_given_by_the_option_as_crun_does(bundle, has):
    bundle.do("delete", "--force", ID)
    bundle.config["process"]["noNewPrivileges"] = has
    bundle.start()
    status = ("grep", "NoNewPrivs", "/proc/self/status")
    assert bundle.do("exec", ID, *status).split() == ["NoNewPrivs:", "0"]
    assert bundle.do("exec", "--no-new-privs", ID, *status).split() == ["NoNewPrivs:", "1"]


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_the_callers_terminal_stays_the_callers(bundle, verb):
    ours, theirs = pty.openpty()
    words = ("exec", "--tty", "--user", "1234", ID, "id", "-u")
    if verb == "run":
        bundle.do("delete", "--force", ID)
        bundle.config["process"] |= {"terminal": True, "user": {"uid": 1234, "gid": 0}}
        bundle.sh("id -u")
        words = ("run", ID)
    before = os.fstat(theirs).st_uid
    streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    done = bundle.call(*words, capture_output=False, **streams)
    said = os.read(ours, 1000)
    owner = os.fstat(theirs).st_uid
    os.close(ours)
    os.close(theirs)
    assert (done.returncode, said.split()) == (0, [b"1234"])
    assert owner == before


@pytest.mark.parametrize("name", [ID, ".box"], ids=["", "dotted"])
@pytest.mark.parametrize("option", [(), ("--no-new-keyring",)], ids=["new", "old"])
def test_the_callers_session_keyring_does_not_leak(bundle, name, option):
    bundle.do("delete", "--force", ID)
    bundle.config["linux"]["maskedPaths"].remove("/proc/keys")
    cat = "cat /proc/keys; echo end"
    bundle.sh(f"exec >/tmp/keys; {cat}; exec sleep 1000")
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    more = {"preexec_fn": _take_secret, "stderr": subprocess.DEVNULL, "capture_output": False}
    bundle.do("run", "--detach", *option, name, **quiet, **more)
    try:
        seen = bundle.do("exec", name, "sh", "-c", cat, preexec_fn=_take_secret)
        assert ("bayplan-secret" in seen) == bool(option)
        keys = bundle.path / "rootfs/tmp/keys"
        wait_until(lambda: "end" in keys.read_text())
        assert ("bayplan-secret" in keys.read_text()) == bool(option)
    finally:
        bundle.do("delete", "--force", name)


def _take_secret() -> None:
    """Have a session keyring with a key only its possessors see, keyctl(2)."""
    numbers = {"x86_64": (248, 250)}.get(os.uname().machine, (217, 219))
    add_key, keyctl = numbers
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(keyctl, 1, None)  # KEYCTL_JOIN_SESSION_KEYRING
    # KEY_SPEC_SESSION_KEYRING
    key = libc.syscall(add_key, b"user", b"bayplan-secret", b"x", ctypes.c_size_t(1), -3)
    libc.syscall(keyctl, 5, key, 0x3F000000)  # KEYCTL_SETPERM: all for possessors, none for others


def test_an_exec_joins_those_inside_who_have_made_groups_of_their_own(bundle):
    """As systemd in a container does: version 2 takes no process into a group with controllers."""
    hierarchy = Hierarchy.detect()
    if hierarchy.unified is None:
        cannot("show groups within groups: there is no version 2 of cgroups")
    group = Path(f"{hierarchy.unified}/{bundle.cgroup}")
    if not group.exists():
        cannot("show it: containers have no version 2 group here")
    there = (group / "cgroup.controllers").read_text().split()
    if not there:
        cannot("show it: version 2 has no controller")
    (group / "below").mkdir()
    for pid in (group / "cgroup.procs").read_text().split():
        (group / "below/cgroup.procs").write_text(pid)
    (group / "cgroup.subtree_control").write_text(f"+{there[0]}")
    found = bundle.do("exec", ID, "cat", "/proc/self/cgroup")
    assert any(line.startswith("0::") for line in found.splitlines())
    bundle.do("exec", ID, "true")
