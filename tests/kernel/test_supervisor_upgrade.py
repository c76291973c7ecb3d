"""One version of the supervisor after another, with containers, terminals and clients at work."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import runtime
from runtime.container.program import compile_enter
from runtime.errors import SupervisorError
from runtime.supervisor.names import Code, own_code
from runtime.supervisor.request import ExecRequest, Logs
from tests.support.supervised import COUNT, Supervised
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kernel

VERSION_FILE, NEXT = "version.py", {'"0.1.0"': '"0.2.0"'}


@pytest.fixture
def host(world):
    host = Supervised(world)
    yield host
    host.client.shutdown(kill=True)


def version(folder: Path, changes: dict[str, dict[str, str]]) -> Code:
    """Return a copy of our code in *folder*, with texts in its files replaced."""
    shutil.copytree(Path(runtime.__file__).parent, folder / "runtime")
    for name, texts in changes.items():
        path = folder / "runtime" / name
        text = path.read_text()
        for old, new in texts.items():
            assert old in text
            text = text.replace(old, new)
        path.write_text(text)
    return Code(sys.executable, str(folder))


def until(script: str) -> str:
    """Return a script that waits for SIGUSR1, and then runs *script*."""
    return f"trap '{script}' USR1; echo up; while :; do sleep 0.01; done"


def only_the_log_tells(host, text: str) -> None:
    log = host.root.run / "supervisor.log"
    assert text in log.read_text()
    log.unlink()


def test_an_upgrade_loses_nothing_of_what_is_under_way(host, tmp_path):
    new = version(tmp_path / "next", {VERSION_FILE: NEXT})
    host.launch("a", COUNT, logs=Logs(path=str(host.log_folder("a")), max_files=1000))
    host.launch("b", until("exit 33"))
    # A client in the foreground, one on a terminal, one attached, one that waits, one that looks.
    out, stdout = os.pipe()
    host.client.launch(host.request("c", "echo one; " + until("echo two; exit 3")), stdout=stdout)
    os.close(stdout)
    request = host.request(
        "t", "while read x; do echo said $x; done", process={"terminal": True}, terminal=True
    )
    host.client.launch(request)
    master = host.client.attach("t")
    run = host.enter(
        "a", "sh", "-c", "stty -echo; echo r; read x; echo got $x; exit 9", terminal=True
    )
    attached = host.client.exec(
        ExecRequest(
            id="a",
            program=compile_enter(host.process("sh", "-c", until("exit 8"))).to_json(),
            attached=True,
        )
    )
    codes: dict[str, object] = {}
    waits = {"b": lambda: host.client.wait("b", 20), "attached": lambda: attached.wait(20)}
    threads = [
        threading.Thread(target=lambda k=key, w=wait: codes.update({k: w()}))
        for key, wait in waits.items()
    ]
    for thread in threads:
        thread.start()
    for id in "bc":
        host.wait_line(id, "up")
    assert b"r" in os.read(run.terminal, 100)
    before = host.client.ping()
    pids = {told.id: told.pid for told in host.client.list()}

    host.client.upgrade(new)

    after = host.client.ping()
    assert (after["version"], after["folder"]) == ("0.2.0", new.folder)
    assert after["pid"] != before["pid"]
    # The keeper is the same process and the parent of all, and of the new version, too.
    assert after["keeper"] == before["keeper"]
    wait_until(lambda: new.folder.encode() in Path(f"/proc/{after['keeper']}/cmdline").read_bytes())
    assert {told.id: told.pid for told in host.client.list()} == pids
    os.write(run.terminal, b"word\n")
    assert run.wait(10) == 9
    assert b"got word" in os.read(run.terminal, 100)
    os.write(master, b"hello\n")
    host.wait_line("t", "said hello\r")
    for id in "bc":
        host.client.kill(id, signal.SIGUSR1)
    attached.kill(signal.SIGUSR1)
    assert b"".join(iter(lambda: os.read(out, 100), b"")) == b"one\nup\ntwo\n"
    for thread in threads:
        thread.join()
    assert codes == {"b": 33, "attached": 8}
    assert host.client.stop("a").exit_code == 7
    host.check_count("a")
    for end in (out, master):
        os.close(end)
    run.close()
    attached.close()
    # It is a keeper like any other: what is killed comes back, of the new version.
    host.kill_supervisor()
    assert host.client.ping()["version"] == "0.2.0"


def test_launches_and_execs_during_upgrades_all_succeed(host, tmp_path):
    codes = [version(tmp_path / f"v{n}", {}) for n in range(2)]
    host.launch("a", "exec sleep 98781")
    going = threading.Event()
    done: list[int | None] = []

    def work() -> None:
        n = 0
        while not going.is_set():
            n += 1
            host.launch(f"c{n}", f"exit {n % 100}")
            done.append(n % 100 - (host.client.wait(f"c{n}", 20) or 0))
            with host.enter("a", "sh", "-c", "exit 5") as run:
                done.append((run.wait(20) or 0) - 5)

    threads = [threading.Thread(target=work)]
    for thread in threads:
        thread.start()
    for n in range(4):
        host.client.upgrade(codes[n % 2])
        time.sleep(0.2)
    going.set()
    for thread in threads:
        thread.join()
    assert len(done) > 4
    assert not any(done)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"supervisor/container.py": {'"""One container:': 'raise OSError("broken")\n"""'}},
            "broken",
        ),
        (
            {
                "supervisor/request.py": {
                    "    token: str = ": "    token: str\n    other: int\n    x: str = "
                }
            },
            "a: TypeError",
        ),
        ({VERSION_FILE: {"STATE_VERSION = 1": "STATE_VERSION = 0"}}, "the state is of version 1"),
        (
            {"supervisor/operations_process.py": {'    "session": session,': ""}},
            "no operation session",
        ),
    ],
    ids=["does not load", "asks for more", "older", "cannot do what is asked"],
)
def test_a_version_that_cannot_go_on_is_refused_and_the_old_one_stays(
    host, tmp_path, changes, told
):
    broken = version(tmp_path / "broken", changes)
    host.client.launch(host.request("a", "exec sleep 98782"))
    before = host.client.ping()
    with pytest.raises(SupervisorError, match=told):
        host.client.upgrade(broken)
    assert host.client.ping() == before
    only_the_log_tells(host, told)
    with host.enter("a", "true") as run:
        assert run.wait(10) == 0


@pytest.mark.parametrize("how", ["raise SystemExit(3)", "os.kill(os.getpid(), 9)"])
def test_a_version_that_breaks_when_it_takes_over_is_taken_back(host, tmp_path, how):
    changes = {"supervisor/main.py": {"    home = Home(*arguments)": f"    {how}"}}
    broken = version(tmp_path / "broken", changes)
    host.launch("a", COUNT)
    with pytest.raises(SupervisorError, match="did not get to serve"):
        host.client.upgrade(broken)
    told = host.client.ping()
    assert told["folder"] == own_code().folder
    only_the_log_tells(host, "before it served")
    assert host.client.stop("a").exit_code == 7
    host.check_count("a")


def test_an_older_one_is_upgraded_by_the_first_client_that_is_newer(host, tmp_path):
    host.launch("a", "exec sleep 98783")
    newer = version(tmp_path / "next", {VERSION_FILE: NEXT})
    script = (
        "import sys; from runtime.root import Root; "
        "from runtime.supervisor.client import Supervisor; "
        "print(Supervisor(Root.at(sys.argv[1])).ping()['version'])"
    )
    command = [sys.executable, "-c", script, str(host.root.run.parent)]
    done = subprocess.run(command, cwd=newer.folder, capture_output=True, text=True, check=True)
    assert done.stdout == "0.2.0\n"
    assert host.client.ping()["version"] == "0.2.0"
    assert host.client.status("a").state == "running"
