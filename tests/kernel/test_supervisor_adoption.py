"""A successor that cannot take over everything at once: it says so, and claims nothing."""

import json
import os
import time
from contextlib import contextmanager

import pytest

from runtime.errors import StateError, SupervisorError
from runtime.supervisor import record, status
from runtime.supervisor.request import Restart
from tests.support.supervised import Supervised
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kernel


@pytest.fixture
def host(world):
    host = Supervised(world)
    yield host
    host.close()


@contextmanager
def no_log(host, id):
    """Let the log of a container be where it cannot be opened; what is said about it is dropped."""
    folder = host.log_folder(id)
    aside = folder.with_name("aside")
    folder.rename(aside)
    folder.touch()
    yield
    folder.unlink()
    aside.rename(folder)
    (host.root.run / "supervisor.log").unlink()


def test_a_container_not_adopted_yet_is_not_said_to_have_ended(host):
    host.launch("a", "echo up; exec sleep 98751")
    host.wait_line("a", "up")
    pid = host.client.status("a").pid
    with no_log(host, "a"):
        host.kill_supervisor()
        for ask in (
            lambda: host.client.stop("a", grace=0),
            lambda: host.client.kill("a", 9),
            lambda: host.enter("a", "true"),
        ):
            with pytest.raises(StateError, match=r"cannot take over a yet: .*File exists"):
                ask()
        assert (host.client.status("a").state, host.client.status("a").pid) == ("running", pid)
        assert host.processes("sleep", "98751") == {pid}
    # Asked for again it is tried again, and not only after a while.
    assert host.client.stop("a", grace=0).exit_code == 137
    assert host.processes("sleep", "98751") == set()


def test_a_container_not_adopted_yet_is_adopted_as_soon_as_that_is_possible(host):
    host.launch("a", "echo up; exec sleep 98752")
    host.wait_line("a", "up")
    host.launch("b", "exec sleep 98753")
    with no_log(host, "a"):
        host.kill_supervisor()
        # The others do not suffer, and nobody leaves while one is not looked after.
        assert host.client.stop("b", grace=0).state == "exited"
        supervisor = host.client.ping()["pid"]
        time.sleep(1.5)
        assert host.client.ping()["pid"] == supervisor
    os.kill(host.client.status("a").pid, 9)
    assert host.client.wait("a", 5) == 137


def test_one_address_that_cannot_be_served_does_not_silence_the_others(host):
    address = f"127.54.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
    host.launch("a", "exec sleep 98754")
    host.client.dns([address])
    note = host.root.run / "dns.json"
    note.write_text(json.dumps(["not.an.address", *json.loads(note.read_text())]))
    host.kill_supervisor()
    assert host.client.ping()["dns"] != 0
    # What is not served yet is not forgotten either.
    assert json.loads(note.read_text()) == [address, "not.an.address"]
    host.client.dns([], close=[address, "not.an.address"])
    assert host.client.ping()["dns"] == 0
    (host.root.run / "supervisor.log").unlink()


def test_files_emptied_by_a_loss_of_power_are_none(host):
    for id in "ab":
        host.launch(id, f"echo up; exec sleep 9876{ord(id)}", restart=Restart(policy="always"))
        host.wait_line(id, "up")
    pids = {id: host.client.status(id).pid for id in "ab"}
    told = host.client.ping()
    for pid in (told["keeper"], told["pid"], *pids.values()):
        os.kill(pid, 9)
    wait_until(
        lambda: (
            not (host.processes() or any(os.path.exists(f"/proc/{pid}") for pid in pids.values()))
        )
    )
    run = host.root.run
    (run / "containers/a" / status.FILE).write_bytes(b"")
    (run / "containers/b" / record.LAUNCH_FILE).write_bytes(b"")
    (run / "dns.json").write_bytes(b"")

    assert set(status.read_all(host.root)) == {"b"}
    assert host.client.list() == []
    assert status.read_all(host.root) == {}
    for id in "ab":
        host.launch(id, "echo again; exit 3")
        assert host.client.wait(id, 5) == 3


def test_a_record_that_says_nothing_usable_is_one_containers_misfortune(host):
    for id in "ab":
        host.launch(id, f"echo up; exec sleep 9877{ord(id)}")
        host.wait_line(id, "up")
    with pytest.raises(SupervisorError, match="logs is null"):
        host.client.ask("configure", {"id": "a", "logs": None})
    assert host.client.status("a").state == "running"
    file = host.root.run / "containers/a" / record.LAUNCH_FILE
    good = file.read_bytes()
    file.write_text(json.dumps({**json.loads(good), "logs": None}))
    host.kill_supervisor()
    assert [told.id for told in host.client.list()] == ["b"]
    assert host.client.stop("b", grace=0).state == "exited"
    file.write_bytes(good)
    host.kill_supervisor()
    assert host.client.stop("a", grace=0).state == "exited"
    log = host.root.run / "supervisor.log"
    assert log.read_text() == "cannot look after a, its launch.json: logs is null\n"
    log.unlink()
