"""Containers that would keep a supervisor busy, or waiting: it goes on serving the others."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from runtime.cgroup.group import Cgroup
from runtime.cgroup.hierarchy import Hierarchy
from runtime.spec import Mount, Pids, Resources
from runtime.supervisor import logs
from runtime.supervisor.request import Logs
from tests.support.elf import write_fork_bomb
from tests.support.host import kernel_tells_exits
from tests.support.supervised import COUNT, Supervised
from tests.support.waiting import SLOWNESS, wait_until

pytestmark = pytest.mark.kernel

MANY = round(1000 / SLOWNESS)
# Each byte but the newline: a line of 256 bytes that is no text, in blocks of 64 KiB.
BLOCK = bytes(b for b in range(256) if b != 10) + b"\n"


@pytest.fixture
def host(world):
    host = Supervised(world)
    yield host
    host.close()


def fill(fd: int) -> None:
    """Write to *fd*, non-blocking, until it takes no more."""
    with suppress(BlockingIOError):
        while os.write(fd, bytes(4096)):
            pass


def slowest_answer(host, times: int = 30) -> float:
    slowest = 0.0
    for _ in range(times):
        begun = time.monotonic()
        host.client.ping()
        slowest = max(slowest, time.monotonic() - begun)
    return slowest


def test_one_that_never_reads_its_input_holds_up_nobody(host):
    """Its input is full; so is that of one on a terminal, as often as somebody writes there."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    host.client.launch(host.request("a", "exec sleep 98791"), stdin=read)
    os.close(read)
    process = {"terminal": True}
    host.client.launch(host.request("t", "exec sleep 98792", process=process, terminal=True))
    master = host.client.attach("t")
    for fd in (write, master):
        fill(fd)
    assert slowest_answer(host) < 1.0
    with host.enter("a", "true") as run:
        assert run.wait(10) == 0
    for id in "at":
        assert host.client.stop(id, grace=0).exit_code == 137
    for fd in (write, master):
        os.close(fd)


def test_lines_that_are_no_text_at_full_speed_are_neither_lost_nor_torn(host, tmp_path):
    """While files rotate, all the time, and the supervisor is killed, and replaced by another."""
    (tmp_path / "block").write_bytes(BLOCK * 256)
    script = "i=0; while [ $((i+=1)) -le 400 ]; do dd if=/in/block bs=64k 2>/dev/null; done"
    keep = Logs(path=str(host.log_folder("a")), max_size=1 << 20, max_files=1000)
    bind = Mount("/in", None, str(tmp_path), ("rbind", "ro"))
    (host.places / "in").mkdir()
    host.launch("a", script, logs=keep, mounts=(bind,))
    host.kill_supervisor()
    host.client.upgrade()
    assert host.client.wait("a", 60) == 0
    lines = list(logs.read(host.log_folder("a")))
    assert len(lines) == 400 * 256
    assert {(line.data, line.complete) for line in lines} == {(BLOCK[:-1], True)}


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_very_many_containers_at_once_are_all_adopted_after_a_kill(host):
    """Launched by eight clients; one writes, one floods; then all end, each with its own code."""
    flood = Logs(path=str(host.log_folder("flood")), max_size=8 << 20, max_files=2)
    host.launch("flood", "exec dd if=/dev/zero bs=64k", logs=flood)
    host.launch("count", COUNT, logs=Logs(path=str(host.log_folder("count")), max_files=1000))
    script = "trap 'exit {}' TERM; echo up; while :; do sleep 3600 & wait; done"
    wanted = [host.request(f"c{n}", script.format(n % 100)) for n in range(MANY)]
    with ThreadPoolExecutor(8) as pool:
        pids = {
            asked.id: launched.pid
            for asked, launched in zip(wanted, pool.map(host.client.launch, wanted), strict=True)
        }
    assert len(set(pids.values())) == MANY
    assert slowest_answer(host) < 2.0
    for who in ("pid", "pid", "keeper", "pid"):
        before = host.client.ping()
        os.kill(before[who], 9)
        host.wait_successor(before["pid"])
    assert {t.id: t.pid for t in host.client.list() if t.id in pids} == pids
    host.client.upgrade()
    with ThreadPoolExecutor(8) as pool:
        ended = dict(zip(pids, pool.map(host.client.stop, pids), strict=True))
    for n in range(MANY):
        known = (n % 100,) if kernel_tells_exits() else (n % 100, None)
        assert ended[f"c{n}"].exit_code in known
    assert host.lines(f"c{MANY - 1}") == ["up"]
    host.client.stop("flood", grace=0)
    assert host.client.stop("count").exit_code in ((7,) if kernel_tells_exits() else (7, None))
    host.check_count("count")


def test_a_fork_bomb_in_an_exec_holds_up_nobody(host, tmp_path):
    write_fork_bomb(tmp_path / "bomb")
    group = Cgroup(Hierarchy.detect(), f"{host.root.cgroup}/a")
    group.create(Resources(pids=Pids(40)))
    join = group.join_files()
    (host.places / "in").mkdir()
    bind = Mount("/in", None, str(tmp_path), ("rbind", "ro"))
    options = {"cgroup_join": join}
    host.launch("a", "/in/bomb & exec sleep 98793", mounts=(bind,), options=options)
    wait_until(lambda: len(group.pids()) == 40)
    assert slowest_answer(host) < 1.0
    host.launch("b", "exit 4")
    assert host.client.wait("b", 10) == 4
    assert host.client.stop("a", grace=0).exit_code == 137
    wait_until(lambda: not group.pids())
    group.delete()
