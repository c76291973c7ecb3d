"""One version of the supervisor after another, with containers, terminals and clients at work."""

import json
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
from runtime.supervisor.request import ExecRequest, Health, Logs
from tests.support.supervised import COUNT, Supervised
from tests.support.waiting import SLOWNESS, wait_until

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


class Installed:
    """Our code in a virtual environment of its own, where what is installed is replaced."""

    def __init__(self, folder: Path, world: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        (self.site,) = folder.glob("lib/python*/site-packages")
        self.python, self.world = folder / "bin" / "python", world

    def install(self, changes: dict[str, dict[str, str]], scratch: Path) -> None:
        """Put a version in the place of what is there, file by file, as package managers do."""
        shutil.rmtree(self.site / "runtime", ignore_errors=True)
        os.rename(Path(version(scratch, changes).folder, "runtime"), self.site / "runtime")

    def ping(self) -> dict[str, object]:
        """Have a client of what is installed talk to the supervisor."""
        script = (
            "import json, sys; from runtime.root import Root; "
            "from runtime.supervisor.client import Supervisor; "
            "print(json.dumps(Supervisor(Root.at(sys.argv[1])).ping()))"
        )
        command = [self.python, "-I", "-c", script, str(self.world)]
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=True)
        return json.loads(done.stdout)


def until(script: str) -> str:
    """Return a script that waits for SIGUSR1, and then runs *script*."""
    return f"trap '{script}' USR1; echo up; while :; do sleep 0.01; done"


def only_the_log_tells(host, text: str) -> None:
    log = host.root.run / "supervisor.log"
    assert log.read_text().count("no upgrade") <= 1
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
    patience = 20 * SLOWNESS
    waits = {
        "b": lambda: host.client.wait("b", patience),
        "attached": lambda: attached.wait(patience),
    }
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
    os.utime(before["folder"], (0, 0))
    pids = {told.id: told.pid for told in host.client.list()}

    host.client.upgrade(new)

    after = host.client.ping()
    assert (after["version"], after["origin"]) == ("0.2.0", new.folder)
    assert after["pid"] != before["pid"]
    # The keeper is the same process and the parent of all, and of the new version, too.
    assert after["keeper"] == before["keeper"]
    ours = after["folder"].encode()
    wait_until(lambda: ours in Path(f"/proc/{after['keeper']}/cmdline").read_bytes())
    # And what they run is the only copy of code that is left.
    wait_until(lambda: [*host.root.run.glob("code/*.zip")] == [Path(after["folder"])])
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
    for _ in range(2):  # the second time it is known already, and not noted
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
    assert told["origin"] == own_code().folder
    if "SystemExit" in how:  # it will not do better at the next command
        with pytest.raises(SupervisorError, match="ended with 3 before it served"):
            host.client.upgrade(broken)
        assert host.client.ping()["pid"] == told["pid"]
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


def test_what_runs_goes_on_when_its_files_are_replaced_by_a_broken_version(host, world, tmp_path):
    installed = Installed(tmp_path / "venv", world)
    installed.install({}, tmp_path / "first")
    first = installed.ping()
    assert first["origin"] == str(installed.site)
    # Each process of its probes is another one that is made of its code.
    health = Health(kind="tcp", port=1, interval=0.05, on_unhealthy="none")
    host.launch("a", until("exit 9"), health=health)

    broken = {"supervisor/supervisor.py": {"class Supervisor:": "class Supervisor(Gone):"}}
    installed.install(broken, tmp_path / "broken")

    told = installed.ping()
    assert (told["pid"], told["fingerprint"]) == (first["pid"], first["fingerprint"])
    # Not even who comes after one that is killed is of the files that are there now.
    host.kill_supervisor()
    host.wait_status("a", lambda told: told.health == "unhealthy")
    host.launch("b", "exit 3")
    assert host.client.wait("b", 10) == 3
    only_the_log_tells(host, "NameError: name 'Gone' is not defined")

    same_number = {"supervisor/main.py": {'"""Run the supervisor': '"""Run our supervisor'}}
    installed.install(same_number, tmp_path / "mended")
    with host.enter("a", "sh", "-c", "read x; exit 4", terminal=True) as run:
        told = installed.ping()
        assert (told["version"], told["origin"]) == (first["version"], first["origin"])
        assert told["fingerprint"] != first["fingerprint"]
        os.write(run.terminal, b"word\n")
        assert run.wait(10) == 4
    assert installed.ping()["pid"] == told["pid"]
    host.client.kill("a", signal.SIGUSR1)
    assert host.client.wait("a", 10) == 9


def test_a_launch_that_hangs_puts_an_upgrade_off_and_holds_up_nobody(host, tmp_path):
    new = version(tmp_path / "next", {VERSION_FILE: NEXT})
    host.launch("a", "exec sleep 98784")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    hangs = host.request("hangs", "exit 5", options={"cgroup_join": (str(fifo),)})
    launch = threading.Thread(target=lambda: host.client.launch(hangs))
    launch.start()
    wait_until(lambda: "hangs" in {told.id for told in host.client.list()})
    answers: list[float] = []
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.05):
            began = time.monotonic()
            host.client.ping()
            answers.append(time.monotonic() - began)

    asks = threading.Thread(target=ask)
    asks.start()
    with pytest.raises(SupervisorError, match="put off"):
        host.client.upgrade(new)
    over.set()
    asks.join()
    assert max(answers) < 5
    began = time.monotonic()
    with pytest.raises(SupervisorError, match="no upgrade yet"):
        host.client.upgrade(new)
    assert time.monotonic() - began < 2  # nobody is paused once more for that
    only_the_log_tells(host, "put off")
    with fifo.open("rb"):
        launch.join()
    assert host.client.wait("hangs", 10) == 5
    host.client.upgrade(new)
    assert host.client.ping()["version"] == "0.2.0"
