"""Containers under a supervisor, from launch to end, as its clients see them."""

import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runtime.cgroup.group import Cgroup
from runtime.cgroup.hierarchy import Hierarchy
from runtime.errors import LaunchError, NotFoundError, StateError, SupervisorError
from runtime.kernel.procfs import read_stat
from runtime.spec import Memory, Resources
from runtime.supervisor import protocol, start, status
from runtime.supervisor.client import Supervisor
from runtime.supervisor.request import Restart, Stop
from tests.support.supervised import Supervised
from tests.support.waiting import SLOWNESS, wait_until

pytestmark = pytest.mark.kernel


@pytest.fixture
def host(world):
    host = Supervised(world)
    yield host
    host.close()


def test_a_container_runs_to_its_end(host):
    launched = host.launch("a", "echo out; echo err >&2; exit 3")
    assert host.client.wait("a", 10) == 3
    told = host.client.status("a")
    assert (told.state, told.exit_code, told.signal, told.pid) == ("exited", 3, None, 0)
    assert launched.pid > 1
    assert (host.lines("a"), host.lines("a", "stderr")) == (["out"], ["err"])
    assert told.finished_at >= told.started_at


def test_status_files_are_read_without_a_supervisor_and_believed_with_care(host):
    host.launch("a", "exec sleep 98764")
    told = host.client.status("a")
    assert status.read(host.root, "a") == told
    assert status.read_all(host.root) == {"a": told}
    path = host.root.run / "containers/a/status.json"
    data = json.loads(path.read_text())
    forged = host.root.run / "containers/b"
    forged.mkdir()
    # The pid lives, but started at another time: it is somebody else's now.
    (forged / "status.json").write_text(json.dumps({**data, "id": "b", "startTime": 1}))
    found = status.read_all(host.root)["b"]
    assert (found.state, found.exit_code, found.pid) == ("exited", None, 0)
    with pytest.raises(NotFoundError):
        status.read(host.root, "c")


def test_what_cannot_be_executed_is_dead_and_leaves_no_process(host):
    with pytest.raises(LaunchError) as raised:
        host.launch("a", "true", process={"args": ("no-such-thing",)})
    assert raised.value.exit_code == 127
    told = host.client.status("a")
    assert told.state == "dead"
    assert told.exit_code == 127
    assert "no-such-thing" in told.error
    assert len(host.processes()) == 2
    # The same id may be launched again.
    host.launch("a", "exit 0")
    assert host.client.wait("a", 10) == 0


def test_a_running_id_is_refused_and_the_same_token_is_the_same_launch(host):
    wanted = host.request("a", "echo once; exec sleep 98764", token="t1")
    first = host.client.launch(wanted)
    assert host.client.launch(wanted).pid == first.pid
    with pytest.raises(StateError, match="it is running"):
        host.launch("a", "true")
    host.wait_line("a", "once")
    assert host.lines("a") == ["once"]
    # Also when the answer was lost for so long that it has ended since.
    wanted = host.request("b", "echo once; exit 4", token="t2")
    host.client.launch(wanted)
    host.client.wait("b", 10)
    assert host.client.launch(wanted).pid == 0
    assert host.client.wait("b", 10) == 4
    assert host.lines("b") == ["once"]


def test_bad_requests_are_answered_and_hurt_nobody(host):
    client = host.client
    for members, error in (
        ({"request": {"id": "a"}}, "launch"),
        ({"request": 7}, "no request"),
        ({"request": {"id": "../a", "program": {"namespaces": 0, "operations": []}}}, "launch"),
    ):
        with pytest.raises(Exception, match=error):
            client.ask("launch", members)
    with pytest.raises(Exception, match="no operation"):
        client.ask("dance", {})
    with pytest.raises(NotFoundError):
        client.kill("nobody")
    with start.connect(host.root, start=False) as connection:
        connection.sendall(b"\xff\xff\xff\xff")
        assert connection.recv(1) == b""
    assert client.ping()["containers"] == 0


def test_stop_signals_then_kills_and_no_policy_restarts(host):
    always = Restart(policy="always", backoff=0.01)
    host.launch(
        "polite", "trap 'exit 4' TERM; echo up; while :; do sleep 0.01; done", restart=always
    )
    host.launch("deaf", "trap '' TERM; echo up; while :; do sleep 1; done", restart=always)
    host.launch(
        "custom",
        "trap 'exit 6' USR1; echo up; while :; do sleep 0.01; done",
        stop=Stop(signal=signal.SIGUSR1),
    )
    for id in ("polite", "deaf", "custom"):
        host.wait_line(id, "up")
    assert host.client.stop("polite").exit_code == 4
    begun = time.monotonic()
    told = host.client.stop("deaf", grace=0.3)
    assert 0.3 <= time.monotonic() - begun < 5
    assert (told.exit_code, told.signal, told.state) == (137, 9, "exited")
    assert host.client.stop("custom").exit_code == 6
    # Again: nothing happens.
    assert host.client.stop("polite") == host.client.status("polite")
    assert all(told.restarts == 0 and told.stop_requested for told in host.client.list())


def test_kill_sends_signals_and_a_deadly_one_counts_as_stop(host):
    always = Restart(policy="always", backoff=0.01)
    host.launch("a", "trap 'echo hup' HUP; echo up; while :; do sleep 0.01; done", restart=always)
    host.wait_line("a", "up")
    host.client.kill("a", signal.SIGHUP)
    host.wait_line("a", "hup")
    host.client.kill("a")
    assert host.client.wait("a", 5) == 137
    with pytest.raises(StateError):
        host.client.kill("a", signal.SIGHUP)


def test_restarts_follow_the_policy_and_back_off(host):
    host.launch(
        "a", "echo run; exit 1", restart=Restart(policy="on-failure", max_retries=3, backoff=0.05)
    )
    begun = time.monotonic()
    assert host.client.wait("a", 10) == 1
    assert time.monotonic() - begun >= 0.05 + 0.1 + 0.2
    told = host.client.status("a")
    assert (told.state, told.restarts, told.error) == ("exited", 3, "gave up after 3 retries")
    assert host.lines("a") == ["run"] * 4
    host.launch("b", "exit 0", restart=Restart(policy="on-failure"))
    assert host.client.wait("b", 10) == 0
    assert host.client.status("b").restarts == 0


def test_a_container_killed_from_outside_is_restarted(host):
    told = host.client.launch(
        host.request("a", "exec sleep 98764", restart=Restart(policy="always"))
    )
    os.kill(told.pid, signal.SIGKILL)
    again = host.wait_status("a", lambda s: s.state == "running" and s.restarts == 1)
    assert again.pid != told.pid


def test_stop_while_waiting_to_be_restarted(host):
    host.launch("a", "exit 1", restart=Restart(policy="always", backoff=1000, max_backoff=1000))
    host.wait_status("a", lambda s: s.state == "restarting")
    assert host.client.stop("a").state == "exited"


def test_wait_is_bounded(host):
    host.launch("a", "exec sleep 98764")
    with pytest.raises(TimeoutError):
        host.client.wait("a", 0.05)


def test_events_tell_the_story(host):
    host.launch("old", "exec sleep 98764")
    events = host.client.events(timeout=10)
    assert next(events).type == "present"
    host.launch("a", "exit 2", restart=Restart(policy="on-failure", max_retries=1, backoff=0.01))
    story = []
    while not story or story[-1] != ("died", "exited"):
        event = next(events)
        story.append((event.type, event.status.state))
    assert story == [
        ("started", "running"),
        ("died", "restarting"),
        ("restarted", "running"),
        ("died", "exited"),
    ]
    events.close()
    with pytest.raises(TimeoutError):
        list(host.client.events(timeout=0.05))


def test_configure_is_live(host):
    host.launch("a", "exec sleep 98764")
    host.client.configure("a", restart=Restart(policy="always", backoff=0.01), stop=Stop(grace=0))
    os.kill(host.client.status("a").pid, signal.SIGKILL)
    host.wait_status("a", lambda s: s.restarts == 1 and s.state == "running")
    host.kill_supervisor()
    # Grace 0 was kept by the successor: sleep as pid 1 does not hear SIGTERM.
    begun = time.monotonic()
    assert host.client.stop("a").exit_code == 137
    assert time.monotonic() - begun < 5


def test_forget_and_auto_remove(host):
    host.launch("a", "exit 0")
    host.client.wait("a", 10)
    host.launch("b", "exec sleep 98764")
    with pytest.raises(StateError):
        host.client.forget("b")
    host.client.forget("a")
    host.launch("c", "sleep 0.1", auto_remove=True)
    for event in host.client.events(timeout=10):
        if (event.type, event.status.id) == ("forgotten", "c"):
            break
    assert [told.id for told in host.client.list()] == ["b"]
    assert host.client.wait("c", 10) == 0
    assert os.listdir(host.root.run / "containers") == ["b"]


def test_two_clients_start_exactly_one(host):
    program = (
        "import sys; from runtime.root import Root; "
        "from runtime.supervisor.client import Supervisor; "
        "print(Supervisor(Root.at(sys.argv[1])).ping()['pid'])"
    )
    command = [sys.executable, "-c", program, str(host.root.run.parent)]
    runs = [
        subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
        for _ in range(4)
    ]
    pids = {run.communicate()[0] for run in runs}
    assert len(pids) == 1
    assert len(host.processes()) == 2


def test_it_ends_by_itself_and_leaves_no_socket(host):
    host.launch("a", "exit 0")
    host.client.wait("a", 10)
    keeper = os.pidfd_open(host.client.ping()["keeper"])
    signal.pidfd_send_signal(keeper, 0)
    assert select.select([keeper], [], [], 10)[0]
    os.close(keeper)
    assert sorted(os.listdir(host.root.run)) == ["boot", "code", "containers"]
    with pytest.raises(NotFoundError):
        Supervisor(host.root, start=False).ping()
    # The ended container is still known to the next one.
    assert host.client.wait("a", 10) == 0


def test_shutdown_refuses_while_containers_run(host):
    host.launch("a", "exec sleep 98764")
    with pytest.raises(StateError, match="1 containers are running"):
        host.client.shutdown()
    host.client.shutdown(kill=True)
    assert host.processes() == set()


def test_only_one_protocol_version_is_spoken(host):
    host.client.ping()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(host.root.run / "supervisor.sock"))
        protocol.send(connection, {"hello": 0})
        decoder = protocol.Decoder()
        protocol.receive(connection, decoder)
        assert [m["hello"] for m, _ in decoder.messages()] == [0]
        assert connection.recv(1) == b""


def test_a_client_that_never_reads_is_hung_up_on_and_holds_up_nobody(host):
    host.launch("a", "exec sleep 98764")
    with start.connect(host.root, start=False) as lazy:
        lazy.settimeout(0.5)
        frame = protocol.encode({"n": 1, "op": "list"})
        with pytest.raises((ConnectionError, TimeoutError)):
            lazy.sendall(frame * 200_000)
        begun = time.monotonic()
        host.client.ping()
        assert time.monotonic() - begun < 15 * SLOWNESS  # not as long as it is waited for


def test_a_kill_for_memory_is_told(host):
    group = Cgroup(Hierarchy.detect(), f"{host.root.cgroup}/a")
    group.create(Resources(memory=Memory(limit=16 << 20)))
    join = group.join_files()
    names = ("memory.oom_control", "memory.events")
    files = (os.path.join(os.path.dirname(file), name) for file in join for name in names)
    counts = tuple(file for file in files if os.path.exists(file))
    script = "exec dd if=/dev/zero of=/dev/null bs=200M count=1"
    for command, killed in (("exit 3", False), (script, True), ("exit 3", False)):
        host.launch("a", command, options={"cgroup_join": join}, oom_files=counts)
        host.client.wait("a", 10)
        assert host.client.status("a").oom_killed is killed
    group.delete()


def test_a_kill_for_memory_before_the_start_was_noticed_is_told(host, tmp_path):
    counts = tmp_path / "memory.events"
    counts.write_text("oom_kill 0\n")
    group = Cgroup(Hierarchy.detect(), f"{host.root.cgroup}/a")
    group.create(Resources())
    host.launch("b", "exec sleep 98764")
    supervisor = host.client.ping()["pid"]
    group.freeze()  # the child stands still when it has joined
    options = {"cgroup_join": group.join_files()}
    with ThreadPoolExecutor(1) as pool:
        launched = pool.submit(
            host.launch, "a", "exit 3", options=options, oom_files=(str(counts),)
        )
        wait_until(group.pids)
        (child,) = group.pids()
        host.client.ping()  # so the child has been let go on: version 2 has it join before that
        os.kill(supervisor, signal.SIGSTOP)
        try:
            counts.write_text("oom_kill 1\n")
            group.thaw()
            wait_until(lambda: read_stat(child).state == "Z")
        finally:
            os.kill(supervisor, signal.SIGCONT)
        launched.result()
    assert host.client.wait("a", 10) == 3
    assert host.client.status("a").oom_killed
    group.delete()


def test_many_launches_at_once(host):
    wanted = [host.request(f"c{n}", "exec sleep 98757") for n in range(20)]
    with ThreadPoolExecutor(8) as pool:
        pids = [launched.pid for launched in pool.map(host.client.launch, wanted)]
    assert len(set(pids)) == 20
    wait_until(lambda: host.processes("sleep", "98757") == set(pids))


def test_nothing_piles_up(host):
    def costs():
        pid = host.client.ping()["pid"]
        keeper = host.client.ping()["keeper"]
        fds = [len(os.listdir(f"/proc/{who}/fd")) for who in (pid, keeper)]
        with open(f"/proc/{pid}/status") as file:
            (rss,) = (int(line.split()[1]) for line in file if line.startswith("VmRSS"))
        return fds, rss

    def use(n):
        for _ in range(n):
            host.launch("a", "exec sleep 98756")
            with host.enter("a", "true") as run:
                run.wait(10)
            host.client.stop("a", grace=0)
            host.client.forget("a")

    use(10)
    fds, rss = costs()
    use(40)
    again, grown = costs()
    # The connection of the last question may not be closed yet.
    assert max(after - before for after, before in zip(again, fds, strict=True)) <= 2
    assert grown - rss < 512


def test_a_signal_that_does_not_exist_is_an_error_to_who_asked_and_to_nobody_else(world):
    host = Supervised(world)
    host.launch("a", "exec sleep 98766", stop=Stop(signal=99))
    told = host.client.ping()
    for ask in (lambda: host.client.stop("a"), lambda: host.client.kill("a", 99)):
        with pytest.raises(SupervisorError, match="99 is no signal"):
            ask()
    assert host.client.ping()["pid"] == told["pid"]
    # Nothing of it was done by half.
    assert not host.client.status("a").stop_requested
    host.close()


def test_the_keeper_may_hold_more_than_the_hosts_limit_and_containers_may_not(host):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    try:
        for number in range(50):
            host.launch(f"c{number}", "ulimit -n; exec sleep 98768")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    keeper = host.client.ping()["keeper"]
    assert len(os.listdir(f"/proc/{keeper}/fd")) > 100
    # A supervisor that has taken the keeper's place is told what the host's limit was, too.
    before = host.client.ping()["pid"]
    os.kill(keeper, signal.SIGKILL)
    host.wait_successor(before)
    assert host.client.ping()["keeper"] == before
    host.launch("later", "ulimit -n; exec sleep 98768")
    for name in ("c0", "later"):
        host.wait_line(name, "100")
