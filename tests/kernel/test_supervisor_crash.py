"""What is left when supervisor, keeper or both are killed with -9."""

import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from runtime.cgroup.group import Cgroup
from runtime.cgroup.hierarchy import Hierarchy
from runtime.spec import Pids, Resources
from runtime.supervisor import status
from runtime.supervisor.request import Logs, Restart
from tests.support.host import kernel_tells_exits
from tests.support.supervised import COUNT, Supervised
from tests.support.waiting import wait_until

SLEEP = ("sleep", "98765")

pytestmark = pytest.mark.kernel


@pytest.fixture
def host(world):
    host = Supervised(world)
    yield host
    host.close()


def test_a_hundred_kills_lose_and_double_no_line_and_keep_the_exit_code(host):
    keep = {"max_size": 1 << 20, "max_files": 10_000}
    for id in "ab":
        host.launch(id, COUNT, logs=Logs(path=str(host.log_folder(id)), **keep))
    moments = random.Random(1)
    keeper = host.client.ping()["keeper"]
    killed: set[int] = set()
    while len(killed) < 100:
        time.sleep(moments.random() * 0.1)
        # Every other one is not even up yet.
        for pid in host.processes() - {keeper} - killed:
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
            if len(killed) % 2:
                host.wait_successor(pid)
    assert host.client.ping()["keeper"] == keeper
    for id in "ab":
        told = host.client.stop(id)
        assert (told.exit_code, told.signal, told.restarts) == (7, None, 0)
        host.check_count(id)


def test_exit_codes_of_containers_that_end_while_nobody_is_there(host):
    host.launch("a", "echo up; read line < /dev/null; sleep 0.3; echo last; exit 33")
    host.launch("b", "sleep 0.3; kill -9 $$", options={"init": True})
    host.wait_line("a", "up")
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline:
        os.kill(host.client.ping()["pid"], 9)
    assert host.client.wait("a", 5) == 33
    assert host.client.wait("b", 5) == 137
    assert host.lines("a") == ["up", "last"]


def test_restart_policies_go_on_by_themselves(host):
    restart = Restart(policy="always", backoff=0.01, max_backoff=0.05)
    host.launch("a", "echo run; sleep 0.05; exit 1", restart=restart)
    for _ in range(10):
        host.kill_supervisor()
    seen = host.client.status("a").restarts
    host.wait_status("a", lambda s: s.restarts > seen)
    assert host.client.stop("a", grace=0).state == "exited"


def test_a_stop_under_way_is_finished_by_the_successor(host):
    host.launch("a", "trap '' TERM; echo up; while :; do sleep 1; done")
    host.wait_line("a", "up")
    child = os.fork()
    if child == 0:
        host.client.stop("a", grace=0.5)
        os._exit(0)
    wait_until(lambda: status.read(host.root, "a").kill_at is not None)
    host.kill_supervisor()
    assert host.client.wait("a", 5) == 137
    assert host.client.status("a").stop_requested
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_keeper_is_replaced_and_exit_codes_are_still_kept(host):
    host.launch("a", COUNT)
    host.launch("b", "trap 'exit 5' TERM; echo up; while :; do sleep 0.01; done")
    host.wait_line("b", "up")
    # The children of the second to go are init's, and what init has reaped only the kernel knows.
    for _ in range(5 if kernel_tells_exits() else 1):
        before = host.client.ping()
        os.kill(before["keeper"], 9)
        host.wait_successor(before["pid"])
        after = host.client.ping()
        # The supervisor has turned into the keeper, so that it is still the parent.
        assert after["keeper"] == before["pid"]
    host.kill_supervisor()
    assert host.client.stop("a").exit_code == 7
    assert host.client.stop("b").exit_code == 5
    host.check_count("a")


def test_both_killed_the_next_client_adopts(host):
    host.launch("a", COUNT, logs=Logs(path=str(host.log_folder("a")), max_files=1000))
    host.launch("b", "echo up; sleep 0.2; exit 3", restart=Restart(policy="on-failure"))
    host.launch("c", "sleep 0.1; exit 0")
    pid = host.client.status("a").pid
    _kill_both(host)
    wait_until(lambda: status.read_all(host.root)["c"].state == "exited")
    assert status.read_all(host.root)["a"].state == "running"
    assert host.client.status("a").pid == pid
    # How it ended nobody may have seen: unknown counts as a failure, so b runs again.
    assert host.client.status("c").exit_code in (None, 0)
    host.wait_status("b", lambda s: s.restarts > 0)
    host.client.stop("b", grace=0)
    told = host.client.stop("a")
    assert told.state == "exited"
    host.check_count("a")


def test_shutdown_ends_what_runs_without_a_supervisor(host):
    host.launch("a", "exec sleep 98765")
    _kill_both(host)
    host.client.shutdown(kill=True)
    assert host.processes(*SLEEP) == set()
    assert status.read(host.root, "a").state == "exited"


def test_a_launch_is_asked_again_and_made_once(host):
    """Kills at random moments of launches: each launch succeeds, and nothing is left over."""
    moments = random.Random(2)
    for number in range(20):
        told = host.client.ping()
        with _soon(moments.random() * 0.03, told["pid"]):
            launched = host.launch(f"c{number}", f"echo once; exec {' '.join(SLEEP)}")
        host.wait_successor(told["pid"])
        assert host.client.status(f"c{number}").pid == launched.pid
    # The last one may just be on its way to it.
    wait_until(lambda: host.processes(*SLEEP) == {told.pid for told in host.client.list()})
    assert host.processes() == {host.client.ping()[who] for who in ("pid", "keeper")}
    for told in host.client.list():
        host.wait_line(told.id, "once")
        assert host.lines(told.id) == ["once"]


def test_both_killed_at_random_moments_of_launches_leak_nothing(host):
    moments = random.Random(3)
    hierarchy = Hierarchy.detect()
    groups = []
    for number in range(15):
        told = host.client.ping()
        groups.append(Cgroup(hierarchy, f"{host.root.cgroup}/c{number}"))
        groups[-1].create(Resources(pids=Pids(100)))
        join = groups[-1].join_files()
        with _soon(moments.random() * 0.03, told["keeper"], told["pid"]):
            launched = host.launch(
                f"c{number}",
                f"echo once; exec {' '.join(SLEEP)}",
                options={"cgroup_join": join},
                cgroup_procs=tuple(f"{os.path.dirname(file)}/cgroup.procs" for file in join),
            )
        host.wait_successor(told["pid"])
        assert host.client.status(f"c{number}").pid == launched.pid
    # The last one may still be the shell.
    wait_until(lambda: host.processes(*SLEEP) == {told.pid for told in host.client.list()})
    assert host.processes() == {host.client.ping()[who] for who in ("pid", "keeper")}
    for told in host.client.list():
        host.client.stop(told.id, grace=0)
    for group in groups:
        group.delete()


def test_kills_while_everything_happens(host):
    """Three clients at work while supervisor and keeper are killed at random, for a while."""
    end = time.monotonic() + 8
    wrong = []

    def work(number):
        moments = random.Random(number)
        while time.monotonic() < end:
            id, code = f"c{number}", moments.randrange(100)
            if moments.random() < 0.5:
                host.launch(id, f"echo {code}; exit {code}")
                found = host.client.wait(id, 30)
            else:
                again = Restart(policy="on-failure", max_retries=2, backoff=0.01)
                host.launch(id, "echo run; exit 1", restart=again)
                host.client.wait(id, 30)
                found, code = host.client.status(id).restarts, 2
            if found != code:
                wrong.append((host.client.status(id), code))
            host.client.forget(id)

    host.launch("a", COUNT, logs=Logs(path=str(host.log_folder("a")), max_files=1000))
    moments = random.Random(4)
    with ThreadPoolExecutor(3) as pool:
        workers = [pool.submit(work, number) for number in range(3)]
        while time.monotonic() < end:
            time.sleep(moments.random() * 0.3)
            told = host.client.ping()
            who = "pid" if moments.random() < 0.7 else "keeper"
            os.kill(told[who], signal.SIGKILL)
            if who == "keeper":  # nobody has what both held, were both dead before one is replaced
                host.wait_successor(told["pid"])
        for worker in workers:
            worker.result()
    assert wrong == []
    assert host.client.stop("a").exit_code in ((7,) if kernel_tells_exits() else (7, None))
    host.check_count("a")
    assert {told.id for told in host.client.list()} == {"a"}


@contextmanager
def _soon(delay, *pids):
    """Kill *pids* in *delay* seconds, while the body runs."""
    child = os.fork()
    if child == 0:
        time.sleep(delay)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        os._exit(0)
    try:
        yield
    finally:
        os.waitpid(child, 0)


def _kill_both(host):
    told = host.client.ping()
    for pid in (told["keeper"], told["pid"]):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not host.processes())
