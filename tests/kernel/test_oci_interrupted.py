"""Commands of the OCI command line that are killed, get in each other's way or share a name."""

import fcntl
import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from runtime.kernel.procfs import start_ticks
from tests.support.bundle import ID, bundle_in
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kernel

_INTO_NULL = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
NO_STREAMS = {"capture_output": False, **_INTO_NULL}


@pytest.fixture
def bundle(world):
    with bundle_in(world) as made:
        yield made


def _told(path) -> int:
    """Wait until a hook has written the state it was given, and return the pid in it."""
    wait_until(path.exists)
    return json.loads(path.read_text())["pid"]


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _noting(path, more: str = "true") -> dict:
    script = f"cat >{path}.tmp; mv {path}.tmp {path}; {more}"
    return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}


def _waits_for_lock(pid: int) -> bool:
    lines = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and f" {pid} " in line for line in lines)


def test_the_cgroup_of_a_stopped_container_is_still_its_own(bundle):
    bundle.start()
    bundle.do("kill", ID, "KILL")
    bundle.wait_stopped()
    other = ("--root", str(bundle.path / "other"))
    assert "of another container" in bundle.fails(*other, "create", ID)
    bundle.do("delete", ID)
    bundle.do(*other, "create", ID, **NO_STREAMS)
    bundle.do(*other, "delete", ID)


@pytest.mark.parametrize("of_another_boot", [False, True])
def test_a_later_cgroup_of_the_same_name_is_another_containers(bundle, of_another_boot):
    """Somebody has taken the empty one away, or the machine was booted since."""
    bundle.start()
    bundle.do("kill", ID, "KILL")
    bundle.wait_stopped()
    for group in bundle.groups():
        os.rmdir(group)
    other = ("--root", str(bundle.path / "other"))
    bundle.do(*other, "create", ID, **NO_STREAMS)
    bundle.do(*other, "start", ID)
    if of_another_boot:
        record = bundle.root / ID / "status"
        now = json.loads(bundle.do(*other, "state", ID))["pid"]
        text = json.loads(record.read_text())
        text |= {"boot": "another", "pid": now, "start": start_ticks(now), "cgroup_inode": None}
        record.write_text(json.dumps(text))
        assert bundle.state()["status"] == "stopped"
    bundle.fails("kill", "--all", ID, "KILL")
    bundle.do("delete", ID)
    assert json.loads(bundle.do(*other, "state", ID))["status"] == "running"
    bundle.do(*other, "delete", "--force", ID)


def test_the_same_id_below_another_root_is_another_container(bundle):
    del bundle.config["linux"]["cgroupsPath"]
    bundle.start()
    bundle.do("kill", ID, "KILL")
    bundle.wait_stopped()
    other = ("--root", str(bundle.path / "other"))
    try:
        bundle.do(*other, "run", "--detach", ID, **NO_STREAMS)
        bundle.do("delete", ID)
        assert json.loads(bundle.do(*other, "state", ID))["status"] == "running"
    finally:
        bundle.call(*other, "delete", "--force", ID)


def test_a_half_made_container_has_no_say_over_the_cgroup_it_asked_for(bundle):
    bundle.start()
    half = bundle.root / "half"
    half.mkdir(mode=0o700)
    (half / "config.json").write_text(json.dumps(bundle.config))
    bundle.do("delete", "--force", "half")
    assert not half.exists()
    assert bundle.state()["status"] == "running"


def test_a_create_that_fails_late_leaves_no_process(bundle, tmp_path):
    del bundle.config["linux"]["cgroupsPath"]
    bundle.config["hooks"] = {"createRuntime": [_noting(tmp_path / "state")]}
    words = ("--cgroup-manager", "disabled", "create", "--pid-file", "/nonexistent/x", ID)
    assert bundle.call(*words, **NO_STREAMS).returncode == 1
    assert not _is_alive(_told(tmp_path / "state"))
    assert "does not exist" in bundle.fails("state", ID)


def test_what_a_create_that_was_killed_leaves_running_is_killed(bundle, tmp_path):
    del bundle.config["linux"]["cgroupsPath"]
    bundle.config["hooks"] = {"createContainer": [_noting(tmp_path / "state", "sleep 1000")]}
    bundle.call("state", ID)  # writes the config
    arguments = [*bundle.command(), "--cgroup-manager", "disabled", "create", ID]
    with subprocess.Popen(arguments, cwd=bundle.path) as process:
        pid = _told(tmp_path / "state")
        process.kill()
    assert _is_alive(pid)
    bundle.do("--cgroup-manager", "disabled", "delete", "--force", ID)
    assert not _is_alive(pid)


@pytest.mark.parametrize("point", ["prestart", "createContainer", "poststart"])
def test_a_forced_delete_does_not_wait_for_a_hook_that_hangs(bundle, tmp_path, point):
    bundle.config["hooks"] = {point: [_noting(tmp_path / "state", "exec sleep 1000")] * 2}
    bundle.sh("sleep 1000")
    bundle.call("state", ID)  # writes the config
    arguments = [*bundle.command(), "run", "--detach", ID]
    with subprocess.Popen(arguments, cwd=bundle.path, **_INTO_NULL) as process:
        pid = _told(tmp_path / "state")
        bundle.do("delete", "--force", ID)
    assert process.returncode == 1
    assert not _is_alive(pid)
    assert not (bundle.root / ID).exists()


def test_of_two_that_want_one_cgroup_one_gets_it(bundle, tmp_path):
    bundle.config["hooks"] = {"createRuntime": [_noting(tmp_path / "state")]}
    bundle.sh("sleep 1000")
    bundle.call("state", ID)  # writes the config
    folders = [bundle.root, *(bundle.path / f"other{number}" for number in range(3))]
    commands = [[bundle.command()[0], "--root", str(f), "create", ID] for f in folders]
    makers = [subprocess.Popen(c, cwd=bundle.path, **_INTO_NULL) for c in commands]
    try:
        assert sorted(maker.wait() for maker in makers) == [0, 1, 1, 1]
        assert _is_alive(_told(tmp_path / "state"))
    finally:
        for folder in folders:
            bundle.do("--root", str(folder), "delete", "--force", ID)


def test_a_delete_that_waited_leaves_the_next_container_of_that_id_alone(bundle, tmp_path):
    bundle.start()
    folder = bundle.root / ID
    lock = os.open(folder, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with subprocess.Popen([*bundle.command(), "delete", "--force", ID]) as process:
        wait_until(lambda: _waits_for_lock(process.pid))
        folder.rename(tmp_path / "old")
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        os.close(lock)
    assert process.returncode == 0
    assert os.listdir(folder) == ["config.json"]
    (folder / "config.json").unlink()
    folder.rmdir()
    (tmp_path / "old").rename(folder)


def test_a_foreground_run_leaves_the_next_container_of_its_id_alone(bundle):
    bundle.sh("echo ready; sleep 1000")
    bundle.call("state", ID)  # writes the config
    arguments = [*bundle.command(), "run", ID]
    with subprocess.Popen(arguments, cwd=bundle.path, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGSTOP)
        try:
            bundle.do("delete", "--force", ID)
            bundle.start()
        finally:
            process.send_signal(signal.SIGCONT)
    assert process.returncode == 128 + signal.SIGKILL
    assert bundle.state()["status"] == "running"


def test_a_foreground_run_whose_container_is_deleted_returns_its_code(bundle):
    bundle.sh("echo ready; sleep 1000")
    bundle.call("state", ID)  # writes the config
    arguments = [*bundle.command(), "run", ID]
    with subprocess.Popen(arguments, cwd=bundle.path, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        bundle.do("delete", "--force", ID)
    assert process.returncode == 128 + signal.SIGKILL


def test_a_start_that_was_killed_once_it_connected_has_started_the_container(bundle):
    bundle.start(verb="create")
    assert bundle.state()["status"] == "created"
    folder = os.open(bundle.root / ID, os.O_PATH)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(f"/proc/self/fd/{folder}/start.sock")
    os.close(folder)
    wait_until(lambda: bundle.state()["status"] == "running")
    assert "it is running" in bundle.fails("delete", ID)
    assert "it is running" in bundle.fails("start", ID)
    assert not (bundle.root / ID / "start.sock").exists()
    assert bundle.do("exec", ID, "cat", "/proc/1/comm") == "sleep\n"


def test_a_process_killed_before_its_program_has_not_started(bundle):
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "touch /tmp/hook; exec sleep 1000"]}
    bundle.config["hooks"] = {"startContainer": [{**hook, "env": ["PATH=/bin"]}]}
    bundle.start(verb="create")
    arguments = [*bundle.command(), "start", ID]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
        wait_until((bundle.path / "rootfs/tmp/hook").exists)
        bundle.do("kill", ID, "KILL")
        assert "ended before" in process.stderr.read()
    assert process.returncode == 1


def test_a_forced_delete_does_not_wait_for_a_hook_of_start(bundle):
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "touch /tmp/hook; exec sleep 1000"]}
    bundle.config["hooks"] = {"startContainer": [{**hook, "env": ["PATH=/bin"]}]}
    bundle.start(verb="create")
    with subprocess.Popen([*bundle.command(), "start", ID]) as process:
        wait_until((bundle.path / "rootfs/tmp/hook").exists)
        bundle.do("delete", "--force", ID)
    assert process.returncode == 1
