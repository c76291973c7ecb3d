"""NOTIFY_SOCKET: a service manager is told when what runs in a container is ready."""

import os
import socket
import subprocess
import threading

import pytest

from tests.support.bundle import ID, bundle_in

pytestmark = pytest.mark.kernel

READY = r"""
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(os.environ["NOTIFY_SOCKET"])
s.send(b"STATUS=starting")
sys.stdin.read() if sys.argv[1:] else None
s.send(b"MAINPID=1\nREADY=1\n")
"""


@pytest.fixture
def bundle(world):
    with bundle_in(world) as made:
        for name in ("usr", "lib", "lib64"):
            (made.path / "rootfs" / name).mkdir(exist_ok=True)
            mount = {"destination": f"/{name}", "type": "bind", "source": f"/{name}"}
            made.config["mounts"].append({**mount, "options": ["rbind", "ro"]})
        yield made


class Manager:
    """What systemd is to a service: takes what it sends, and lets go of what comes along."""

    def __init__(self, path: str) -> None:
        self.got: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(path)
        self.thread = threading.Thread(target=self._take)
        self.thread.start()

    def _take(self) -> None:
        with self._socket:
            while self.got[-1:] not in (["BARRIER=1"], ["end"]):
                data, fds, *_ = socket.recv_fds(self._socket, 4096, 2)
                self.got.append(data.decode().strip())
                for fd in fds:
                    os.close(fd)


@pytest.fixture
def manager(tmp_path):
    path = f"{tmp_path}/notify"
    made = Manager(path)
    made.env = {**os.environ, "NOTIFY_SOCKET": path}
    yield made
    if made.thread.is_alive():
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"end", path)
    made.thread.join()


def _program(bundle, script: str) -> None:
    bundle.config["process"]["args"] = ["/usr/bin/python3", "-c", script]


def test_start_returns_when_the_manager_was_told(bundle, manager):
    _program(bundle, READY + "import time; time.sleep(1000)")
    null = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    quiet = {"capture_output": False, **null, "stderr": subprocess.DEVNULL, "env": manager.env}
    bundle.do("create", ID, **quiet)
    assert manager.got == []
    bundle.do("start", ID, env=manager.env)
    pid = bundle.state()["pid"]
    manager.thread.join()
    assert manager.got == ["READY=1", f"MAINPID={pid}", "BARRIER=1"]
    assert bundle.state()["status"] == "running"


def test_start_returns_when_the_process_ended_without_a_word(bundle, manager):
    bundle.sh("echo $NOTIFY_SOCKET; test -S $NOTIFY_SOCKET")
    # Where it is outside, there is a folder with it inside.
    path = manager.env["NOTIFY_SOCKET"]
    assert bundle.do("run", ID, env=manager.env) == f"{path}/notify\n"
    assert manager.got == []


@pytest.mark.parametrize("userns", [False, True], ids=["", "another user"])
def test_a_foreground_run_passes_it_on(bundle, manager, userns):
    if userns:
        bundle.with_user_namespace()
        bundle.config["process"]["user"] = {"uid": 5, "gid": 5}
    _program(bundle, READY + "print('through')")
    assert bundle.do("run", ID, env=manager.env) == "through\n"
    assert manager.got[:1] == ["READY=1"]
    assert manager.got[1].startswith("MAINPID=")


def test_a_manager_that_is_gone_is_a_warning(bundle, tmp_path):
    _program(bundle, READY + "print('through')")
    env = {**os.environ, "NOTIFY_SOCKET": f"{tmp_path}/nobody"}
    bundle.call("state", ID)
    done = bundle.call("run", ID, env=env)
    assert (done.returncode, done.stdout) == (0, "through\n")
    assert "NOTIFY_SOCKET" in done.stderr
