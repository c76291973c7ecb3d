"""Logs under a real supervisor: rotation, following, and writers that do not hold back."""

import os
import shutil
import subprocess
import threading
import time

import pytest

from runtime.supervisor import logs
from runtime.supervisor.logfile import numbers
from runtime.supervisor.request import Logs
from tests.support.supervised import COUNT, Supervised
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kernel


@pytest.fixture
def host(world):
    host = Supervised(world)
    yield host
    host.close()


def test_rotation_cuts_at_newlines_and_keeps_the_last_files(host):
    small = Logs(path=str(host.log_folder("a")), max_size=20_000, max_files=3)
    host.launch("a", "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done", logs=small)
    assert host.client.wait("a", 30) == 0
    folder = host.log_folder("a")
    assert len(numbers(folder)) == 3
    assert len(os.listdir(folder)) == 6
    for number in numbers(folder):
        text = (folder / f"{number:06}.log").read_bytes()
        assert text.startswith(b"line ")
        assert text.endswith(b"\n")
        assert len(text) < 30_000
    found = host.lines("a")
    assert found == [f"line {i}" for i in range(20000 - len(found), 20000)]


def test_following_over_rotations_restarts_and_kills(host):
    some = Logs(path=str(host.log_folder("a")), max_size=200_000, max_files=1000)
    seen, going = [], threading.Event()

    def follow():
        for line in logs.read(host.log_folder("a"), follow=True, going=lambda: not going.is_set()):
            seen.append((line.stream, line.data.decode()))

    # From before there is a folder.
    thread = threading.Thread(target=follow)
    thread.start()
    host.launch("a", COUNT, logs=some)
    for _ in range(3):
        host.kill_supervisor()
    assert host.client.stop("a").exit_code == 7
    host.launch("a", "echo again", logs=some)
    host.client.wait("a", 10)
    going.set()
    thread.join()
    out = [text for stream, text in seen if stream == "stdout"]
    assert out == host.lines("a")
    assert out[-1] == "again"
    assert [t for stream, t in seen if stream == "stderr"] == host.lines("a", "stderr")


def test_a_flood_holds_up_nobody(host):
    flood = Logs(path=str(host.log_folder("flood")), max_size=8 << 20, max_files=2)
    host.launch("flood", "exec dd if=/dev/zero bs=64k", logs=flood)
    host.launch("a", "exec sleep 98760")
    slowest = 0.0
    for _ in range(20):
        begun = time.monotonic()
        host.client.ping()
        slowest = max(slowest, time.monotonic() - begun)
        with host.enter("a", "true") as run:
            assert run.wait(10) == 0
    assert slowest < 1.0
    host.client.stop("flood", grace=0)


def test_bytes_that_are_no_text_and_no_lines_come_through(host):
    host.launch("a", r"printf 'a\0b\377\nno end'; sleep 0.05; printf ' yet'")
    host.client.wait("a", 10)
    first, second = logs.read(host.log_folder("a"))
    assert (first.data, first.complete) == (b"a\0b\xff", True)
    assert (second.data, second.complete) == (b"no end yet", False)


def test_a_full_disk_stops_the_container_and_loses_nothing(host):
    folder = host.log_folder("a")
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "none", folder], check=True)
    try:
        big = Logs(path=str(folder), max_size=10 << 20)
        host.launch("a", "i=0; while [ $i -lt 200000 ]; do echo $i; i=$((i+1)); done", logs=big)
        wait_until(lambda: not shutil.disk_usage(folder).free)
        # Others are served, also by a successor.
        host.launch("b", "echo fine")
        assert host.client.wait("b", 10) == 0
        host.kill_supervisor()
        assert host.client.status("a").state == "running"
        subprocess.run(["mount", "-o", "remount,size=10m", folder], check=True)
        assert host.client.wait("a", 20) == 0
        assert host.lines("a") == [*map(str, range(200000))]
    finally:
        host.client.stop("a", grace=0)
        subprocess.run(["umount", "-l", folder], check=True)
