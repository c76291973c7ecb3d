"""A container from create to delete, as an engine drives the OCI command line."""

import json
import os
import signal
import socket
import subprocess
import time

import pytest

from runtime.kernel.procfs import read_stat
from tests.support.bundle import ID, bundle_in
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kernel


@pytest.fixture
def bundle(world):
    with bundle_in(world) as made:
        yield made


def test_run_returns_what_the_program_printed_and_its_code(bundle):
    assert bundle.run("echo $$; hostname; cat /proc/1/comm; id -u") == "1\nbox\nsh\n0\n"
    bundle.sh("exit 42")
    assert bundle.call("run", ID).returncode == 42


def test_nothing_is_left_after_run(bundle):
    bundle.run("true")
    assert "does not exist" in bundle.fails("state", ID)
    assert bundle.groups() == []


def test_the_states_of_a_life(bundle):
    bundle.start(verb="create")
    created = bundle.state()
    assert created["status"] == "created"
    assert (created["id"], created["bundle"]) == (ID, str(bundle.path))
    assert created["ociVersion"].startswith("1.")
    bundle.do("start", ID)
    running = bundle.state()
    assert (running["status"], running["pid"]) == ("running", created["pid"])
    assert "it is running" in bundle.fails("start", ID)
    bundle.do("kill", ID, "KILL")
    bundle.wait_stopped()
    assert "container not running" in bundle.fails("kill", ID)
    bundle.do("delete", ID)
    assert "does not exist" in bundle.fails("delete", ID)
    bundle.do("delete", "--force", ID)


def test_an_id_is_taken_once(bundle):
    bundle.start()
    assert "exists already" in bundle.fails("create", ID)
    assert bundle.state()["status"] == "running"
    assert "it is running" in bundle.fails("delete", ID)


def test_the_cgroup_of_another_container_is_left_alone(bundle):
    bundle.start()
    words = bundle.fails("--root", str(bundle.path / "other"), "create", ID)
    assert "of another container" in words
    assert bundle.state()["status"] == "running"


def test_a_create_that_was_killed_can_be_deleted(bundle):
    hook = {"path": "/bin/sleep", "args": ["sleep", "3"]}
    bundle.config["hooks"] = {"createRuntime": [hook]}
    bundle.call("state", ID)  # writes the config
    arguments = [*bundle.command(), "create", ID]
    with subprocess.Popen(arguments, cwd=bundle.path) as process:
        wait_until(bundle.groups)
        process.kill()
    assert "does not exist" in bundle.fails("start", ID)
    bundle.do("delete", "--force", ID)
    assert bundle.groups() == []


def test_a_created_container_is_not_run_yet_and_can_be_deleted(bundle):
    bundle.start("echo x > /tmp/ran", verb="create")
    time.sleep(0.1)
    assert not (bundle.path / "rootfs/tmp/ran").exists()
    bundle.do("delete", ID)


def test_a_program_that_is_not_there_is_told_at_create(bundle):
    bundle.config["process"]["args"] = ["/no/such"]
    done = bundle.call("create", ID)
    assert done.returncode == 127
    assert "no such file or directory" in done.stderr
    assert bundle.groups() == []


def test_an_exec_that_fails_is_told_at_start(bundle):
    (bundle.path / "rootfs/bin/odd").write_bytes(b"\x00neither program nor script")
    (bundle.path / "rootfs/bin/odd").chmod(0o755)
    bundle.config["process"]["args"] = ["/bin/odd"]
    bundle.do("create", ID, capture_output=False, stdin=subprocess.DEVNULL)
    assert "neither a program" in bundle.fails("start", ID)
    bundle.wait_stopped()


def test_pause_and_resume(bundle):
    bundle.start("while :; do echo >> /tmp/beat; sleep 0.05; done")
    bundle.do("pause", ID)
    assert bundle.state()["status"] == "paused"
    size = os.path.getsize(bundle.path / "rootfs/tmp/beat")
    time.sleep(0.3)
    assert os.path.getsize(bundle.path / "rootfs/tmp/beat") == size
    assert "paused container" in bundle.fails("exec", ID, "true")
    bundle.do("resume", ID)
    assert bundle.state()["status"] == "running"
    assert "is not paused" in bundle.fails("resume", ID)


def test_a_created_container_that_is_paused_is_not_started(bundle):
    bundle.start(verb="create")
    bundle.do("pause", ID)
    assert bundle.state()["status"] == "paused"
    assert "it is paused" in bundle.fails("start", ID)
    assert "paused container" in bundle.fails("exec", ID, "true")
    bundle.do("resume", ID)
    assert bundle.state()["status"] == "created"
    bundle.do("start", ID)
    assert bundle.state()["status"] == "running"


def test_a_paused_container_can_be_killed(bundle):
    bundle.start()
    bundle.do("pause", ID)
    assert "it is paused" in bundle.fails("delete", ID)
    bundle.do("kill", ID, "SIGKILL")
    bundle.wait_stopped()


def test_ps_list_and_kill_all(bundle):
    bundle.start("sleep 1000 & sleep 1001 & wait")
    listed = lambda: json.loads(bundle.do("ps", "--format", "json", ID))  # noqa: E731
    wait_until(lambda: len(listed()) == 3)
    pids = listed()
    assert bundle.state()["pid"] in pids
    assert bundle.do("ps", ID).split() == ["PID", *map(str, pids)]
    head, *lines = bundle.do("ps", ID, "-e", "-o", "pid,args").splitlines()
    assert head.split() == ["PID", "COMMAND"]
    assert sorted(int(line.split()[0]) for line in lines) == sorted(pids)
    assert "shows no PID" in bundle.fails("ps", ID, "-eo", "args")
    assert bundle.do("list", "--quiet").split() == [ID]
    (row,) = json.loads(bundle.do("list", "--format", "json"))
    assert (row["id"], row["status"]) == (ID, "running")
    bundle.do("kill", ID, "0")
    bundle.do("kill", "--all", ID, "9")
    bundle.wait_stopped()
    bundle.do("kill", "--all", ID, "0")
    assert "not running" in bundle.fails("kill", ID, "0")


def test_those_that_outlive_the_first_process_are_listed(bundle):
    namespaces = bundle.config["linux"]["namespaces"]
    bundle.config["linux"]["namespaces"] = [n for n in namespaces if n["type"] != "pid"]
    bundle.start("sleep 1000 & exit 0")
    bundle.wait_stopped()
    (left,) = json.loads(bundle.do("ps", "--format", "json", ID))
    assert read_stat(left).comm == "sleep"
    bundle.do("delete", "--force", ID)


def test_update_changes_only_what_is_given(bundle):
    bundle.config["linux"]["resources"] = {"memory": {"limit": 64 << 20}, "pids": {"limit": 50}}
    bundle.start()
    assert bundle.limit("pids.max") == "50"
    change = json.dumps({"pids": {"limit": 20}})
    bundle.do("update", "--resources", "-", ID, input=change)
    assert bundle.limit("pids.max") == "20"
    bundle.do("update", "--pids-limit", "30", "--memory", "32M", ID)
    assert bundle.limit("pids.max") == "30"
    assert str(32 << 20) in {bundle.limit(f) for f in _memory_files(bundle)}
    bundle.do("update", ID)  # nothing, as with runc and crun
    # Nor is 0 anything, as with runc: an engine's word for what was not asked for.
    zeros = {"memory": {"limit": 0, "swap": 0}, "cpu": {"shares": 0}, "pids": {"limit": 0}}
    bundle.do("update", "--resources", "-", ID, input=json.dumps(zeros))
    bundle.do("update", "--pids-limit", "0", "--memory", "0", "--cpu-quota", "0", ID)
    assert bundle.limit("pids.max") == "30"
    assert str(32 << 20) in {bundle.limit(f) for f in _memory_files(bundle)}
    assert "memory.kernel is ignored" in bundle.call("update", "--kernel-memory", "9M", ID).stderr
    assert bundle.call("update", "--pids-limit", "30", ID).stderr == ""
    bundle.do("update", "--memory-swap", "48M", ID)
    bundle.do("update", "--memory", "-1", ID)
    assert str(32 << 20) not in {bundle.limit(f) for f in _memory_files(bundle)}


def _memory_files(bundle):
    names = ("memory.limit_in_bytes", "memory.max")
    return [n for n in names if any(os.path.exists(f"{g}/{n}") for g in bundle.groups())]


def test_a_limit_of_a_kind_there_was_none_of_is_seen_inside(bundle):
    bundle.start()
    bundle.do("update", "--cpuset-cpus", "0", ID)
    files = "cd /sys/fs/cgroup; cat cpuset/cpuset.cpus cpuset.cpus 2>/dev/null"
    assert bundle.call("exec", ID, "sh", "-c", files).stdout == "0\n"


def test_signals_of_a_foreground_run_reach_the_program(bundle):
    bundle.sh("trap 'echo caught; exit 7' TERM; echo ready; while :; do sleep 0.05; done")
    bundle.call("state", ID)  # writes the config
    arguments = [*bundle.command(), "run", ID]
    with subprocess.Popen(arguments, cwd=bundle.path, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == b"caught\n"
    assert process.returncode == 7


def test_the_terminal_goes_to_the_console_socket(bundle, tmp_path):
    bundle.config["process"]["terminal"] = True
    bundle.config["process"]["consoleSize"] = {"height": 33, "width": 77}
    assert "use --console-socket" in bundle.fails("create", ID)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "console"))
        listening.listen()
        bundle.sh("tty; stty size")
        bundle.do("run", "-d", "--console-socket", str(tmp_path / "console"), ID)
        connection, _ = listening.accept()
        with connection:
            _, (master,), _, _ = socket.recv_fds(connection, 100, 1)
    with open(master, "rb", buffering=0) as terminal:
        text = b""
        while b"33 77" not in text:
            text += terminal.read(100)
    assert text.startswith(b"/dev/pts/0")


def test_pid_file_log_and_preserved_descriptors(bundle, tmp_path):
    bundle.start(verb="create")
    bundle.do("delete", ID)
    bundle.sh("echo through >&3; ls /proc/self/fd | wc -w")
    words = ("run", "--preserve-fds", "1", "--pid-file", str(tmp_path / "pid"), ID)
    # A shell has it at 3: here that number is taken.
    out = bundle.do(*words, before=("sh", "-c", f'exec "$@" 3>{tmp_path}/kept', "sh"))
    assert out.split() == ["5"]
    assert (tmp_path / "kept").read_text() == "through\n"
    assert (tmp_path / "pid").read_text().isdecimal()
    log = tmp_path / "log"
    bundle.fails("--log", str(log), "--log-format", "json", "state", "nobody")
    (line,) = log.read_text().splitlines()
    assert json.loads(line)["level"] == "error"
    assert "nobody" in json.loads(line)["msg"]


def test_help_tells_verbs_and_options(bundle):
    assert "make a container and start it" in bundle.do("--help")
    assert "--bundle, -b VALUE" in bundle.do("run", "--help")
    assert "ID COMMAND" in bundle.do("exec", "-h")


def test_spec_and_features(bundle):
    bundle.call("state", ID)
    (bundle.path / "config.json").unlink()
    made = subprocess.run([*bundle.command(), "spec"], cwd=bundle.path, check=True)
    assert made.returncode == 0
    bundle.config = json.loads((bundle.path / "config.json").read_text())
    assert "exists already" in bundle.fails("spec")
    bundle.config["process"]["terminal"] = False
    bundle.config["linux"]["cgroupsPath"] = f"/{bundle.cgroup}"
    assert bundle.run("hostname") == "bayplan\n"
    features = json.loads(bundle.do("features"))
    assert "createRuntime" in features["hooks"]
    assert "SCMP_ACT_NOTIFY" in features["linux"]["seccomp"]["actions"]
    assert features["linux"]["cgroup"]["systemd"]
    assert not features["linux"]["intelRdt"]["enabled"]
    assert "org.systemd.property." in features["potentiallyUnsafeConfigAnnotations"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--cgroup-manager", "x", "list"), "cgroupfs, systemd or disabled, not x"),
        (("checkpoint", ID), "checkpoint is not supported"),
        (("nothing",), "no command nothing"),
        (("state", "../etc"), "not a container id"),
        (("kill", ID, "NOSUCH"), "no signal NOSUCH"),
        (("create", "--nothing", ID), "unknown option"),
        (("--log-format", "xml", "list"), "text or json"),
        (("--log", "/nowhere/log", "list"), "--log /nowhere/log: No such file"),
    ],
)
def test_what_cannot_be_is_said(bundle, words, text):
    assert text in bundle.fails(*words)


def test_without_cgroups_there_are_no_limits(bundle):
    del bundle.config["linux"]["cgroupsPath"]
    bundle.sh("echo ok")
    assert bundle.do("--cgroup-manager", "disabled", "run", ID) == "ok\n"
    bundle.config["linux"]["resources"] = {"pids": {"limit": 10}}
    words = bundle.fails("--cgroup-manager", "disabled", "run", ID)
    assert "resources need a cgroup manager" in words
