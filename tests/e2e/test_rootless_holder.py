"""The holder of a user's namespaces: whom it answers, what it outlives, who comes after it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from runtime.rootless.namespaces import KINDS
from tests.support.manifests import HEAD, document
from tests.support.ordinary import Ordinary, delegated_group, ordinary_user, uid
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e

PORT = 18190
WEB = HEAD + document(
    "Container",
    "web",
    f"{{publish: [{{port: {PORT}, targetPort: 80}}], update: {{healthyFor: 0s}}, container: {{"
    "image: box, command: [nc, -ll, -p, '80', -e, echo, hello], stopSignal: SIGKILL}}",
)
_HOLDER = "rootless.holder"
_STRANGER = 65_533
_PYTHON = "/usr/bin/python3"
"""Which everybody can execute."""
_STRANGE = """
import socket, sys
line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
line.connect(sys.argv[1])
try:
    line.send(b'{"op": "enter"}')
    print(line.recv(100) or "hung up")
except ConnectionError:
    print("hung up")
"""
_SHORT_LIVED = """#!/bin/sh
date +%s.%N >> {starts}
case "$(wc -l < {starts})" in 2|3) exec timeout 0.5 {program} "$@" ;; esac
exec {program} "$@"
"""
_ENTER = "import sys; from runtime.rootless.client import enter; enter(sys.argv[1], start=False)"


def test_it_outlives_a_host_that_has_nothing_left():
    with ordinary_user() as user:
        user.apply(WEB)
        (pid,) = user.pids(_HOLDER)
        log = user.socket.parent / "holder.log"
        other = ("--root", f"{user.folder}/home/other")
        user(*other, "apply", "-f", "-", stdin=HEAD)
        with limited(user, pid, "nproc", 0):
            user.kill("slirp4netns")
            wait_until(lambda: "unavailable" in log.read_text())
            before = _descriptors(pid)
            failed = user(*other, "run", "test/box", "true", code=125)
            assert "resource temporarily unavailable" in failed.stderr
            wait_until(lambda: _descriptors(pid) == before)
        wait_until(lambda: _says(user) == "hello")

        lowest = min(set(range(1000)) - _descriptors(pid))
        with limited(user, pid, "nofile", lowest):
            waiting = user.start("ps")
            wait_until(lambda: "Too many open files" in log.read_text())
        assert "web" in waiting.communicate()[0]
        assert [*user.pids(_HOLDER)] == [pid]
        user(*other, "delete", "-p", "test")
        user.delete("test")


def test_it_answers_its_user_alone_and_whoever_comes_as_it_ends_finds_the_next():
    with ordinary_user() as user:
        user.apply(WEB)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
            line.connect(str(user.socket))
            for nonsense in (b"\xff", b"[]", b"{}", b'{"op": "forward", "world": 1, "ports": [2]}'):
                line.send(nonsense)
                assert "error" in json.loads(line.recv(1000))
            line.send(b'{"op": "of-later"}')
            refused = json.loads(line.recv(1000))["error"]
        (pid,) = user.pids(_HOLDER)
        assert f"knows no of-later: after `kill -9 {pid}` the next command" in refused

        # Somebody else, for whom a careless user has opened the way, and root who is no such user.
        (user.folder / "session").chmod(0o711)
        user.socket.parent.chmod(0o711)
        user.socket.chmod(0o666)
        words = ["setpriv", f"--reuid={_STRANGER}", "--clear-groups", "--", _PYTHON, "-c"]
        done = subprocess.run(
            [*words, _STRANGE, str(user.socket)], capture_output=True, text=True, check=False
        )
        assert done.stdout == "hung up\n", done.stderr
        for folder in (user.folder / "session", user.socket.parent):
            folder.chmod(0o700)  # or it would not be taken for the user's
        words = [sys.executable, "-c", _ENTER, str(user.socket.parent)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert "is another user" in done.stderr

        os.kill(pid, signal.SIGSTOP)
        before = _connections(user)
        with user.start("run", "--rm", "test/box", "echo", "done") as late:
            wait_until(lambda: _connections(user) > before)
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGCONT)
            assert late.communicate(timeout=60)[0] == "done\n"
        assert [*user.pids(_HOLDER)] != [pid]
        user.delete("test")


def test_the_one_after_a_killed_one_goes_back_to_its_cgroup():
    with delegated_group("here", "there") as top, ordinary_user(group=top / "here") as user:
        user.apply(HEAD)
        user("run", "-d", "--name", "one", "test/box", "sleep", "1000")
        user.kill(_HOLDER)
        again = replace(user, group=top / "there")
        other = ("--root", f"{user.folder}/home/other")
        again(*other, "apply", "-f", "-", stdin=HEAD)
        again(*other, "run", "-d", "--name", "two", "test/box", "sleep", "1000")
        groups = {Path(f"/proc/{pid}/cgroup").read_text().split()[-1] for pid in user.pids()}
        assert all(f"{top.name}/here/" in group for group in groups), groups
        for words, name in (((), "one"), (other, "two")):
            again(*words, "rm", "-f", name)
            again(*words, "delete", "-p", "test")


def test_numbers_of_namespaces_that_others_have_by_now_are_no_proof():
    with ordinary_user() as user, strange_namespaces(user) as stranger:
        numbers = {kind: os.stat(f"/proc/{stranger.pid}/ns/{kind}").st_ino for kind in KINDS}
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        note = {"boot": boot, "mounts": [], "group": None, **numbers}
        somebody = (stranger.pid, 1, True)  # another one had that pid
        for left in (note | {"mnt": 1, "net": 1}, note, note | {"insiders": [somebody]}):
            _write_note(user, left)
            user("ps")
            assert [*user.pids()] == [stranger.pid]
            assert stranger.poll() is None
        user.apply(WEB)
        log = (user.socket.parent / "holder.log").read_text()
        assert f"are the processes {stranger.pid}: to be ended by hand" in log
        (container,) = user.pids("nc -ll")
        assert os.stat(f"/proc/{container}/ns/user").st_ino != numbers["user"]
        user.delete("test")
        wait_until(lambda: [*user.pids()] == [stranger.pid])
        assert stranger.poll() is None


def test_containers_whose_keeper_is_gone_end_before_there_are_new_namespaces():
    with ordinary_user() as user:
        user.apply(WEB)
        (container,) = user.pids("nc -ll")
        note = user.socket.parent / "namespaces.json"
        wait_until(lambda: container in _noted(note))
        for pid in user.pids("runtime."):  # keeper and holder are followed by nobody then
            os.kill(pid, signal.SIGSTOP)
        for pid in user.pids("runtime."):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not user.pids("runtime."))
        note.with_name("namespaces.json.1.tmp").touch()

        assert f"{container} " not in user("ps").stderr
        assert container in user.pids()
        told = user("apply", "-f", "-", stdin=WEB).stderr
        assert f"killed now: processes {container}\n" in told
        assert container not in user.pids("nc -ll")
        assert "killed now" not in user("ps").stderr
        user.delete("test")
        wait_until(lambda: not user.socket.parent.exists())


def test_a_network_program_that_does_not_stay_is_not_started_again_at_once(
    monkeypatch: pytest.MonkeyPatch,
):
    with ordinary_user() as user:
        starts = user.folder / "home" / "starts"
        program = user.folder / "slirp4netns"
        program.write_text(_SHORT_LIVED.format(starts=starts, program=shutil.which("slirp4netns")))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{user.folder}:{os.environ['PATH']}")
        user.apply(WEB)
        user.kill("slirp4netns --configure")
        wait_until(lambda: len(starts.read_text().split()) > 3 and _says(user) == "hello")
        times = [float(time) for time in starts.read_text().split()[1:]]
        assert all(later - time > 1 for time, later in pairwise(times)), times
        user.delete("test")


@contextmanager
def strange_namespaces(user: Ordinary) -> Iterator[subprocess.Popen]:
    """Yield a process of the user in namespaces that have nothing to do with us."""
    words = ["unshare", "--user", "--cgroup", "--mount", "--net", "sleep", "1000"]
    with subprocess.Popen([*user.as_user, *words]) as stranger:
        try:
            wait_until(lambda: stranger.pid in user.pids("sleep 1000"))
            wait_until(lambda: stranger.pid not in user.pids("unshare"))
            yield stranger
        finally:
            stranger.kill()


def _noted(note: Path) -> list[int]:
    return [pid for pid, *_ in json.loads(note.read_text())["insiders"]]


def _write_note(user: Ordinary, body: dict[str, object]) -> None:
    folder = user.socket.parent
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "namespaces.json").write_text(json.dumps(body))
    for path in (folder, folder / "namespaces.json"):
        os.chown(path, uid(), uid())


@contextmanager
def limited(user: Ordinary, pid: int, what: str, most: int) -> Iterator[None]:
    """Let a process of the user have no more of something for as long as the block lasts."""
    limit = [*user.as_user, "prlimit", "--pid", str(pid)]
    show = [*limit, f"--{what}", "--output=SOFT", "--noheadings"]
    before = subprocess.run(show, check=True, capture_output=True, text=True).stdout.strip()
    subprocess.run([*limit, f"--{what}={most}:"], check=True)
    try:
        yield
    finally:
        subprocess.run([*limit, f"--{what}={before}:"], check=True)


def _descriptors(pid: int) -> set[int]:
    return {int(name) for name in os.listdir(f"/proc/{pid}/fd")}


def _connections(user: Ordinary) -> int:
    """Return how many sockets bear the name of the holder's, those not yet taken in included."""
    return Path(f"/proc/{user.keeper}/net/unix").read_text().count(str(user.socket))


def _says(user: Ordinary) -> str:
    try:
        return user.ask(PORT)
    except OSError:
        return ""
