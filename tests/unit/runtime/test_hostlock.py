import errno
import multiprocessing
import os
import threading
from pathlib import Path

import pytest

from runtime.errors import ConflictError
from runtime.network.hostlock import host_lock
from runtime.root import Root


def test_it_is_reentrant_within_a_thread(tmp_path: Path) -> None:
    root = Root.at(tmp_path)
    with host_lock(root, "outer"), host_lock(root, "inner"):
        pass
    with host_lock(root, "again", timeout_s=0.1):
        pass


def test_threads_exclude_each_other(tmp_path: Path) -> None:
    root = Root.at(tmp_path)
    inside = 0
    most = 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with host_lock(root, "count"):
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_full_disk_keeps_nobody_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", refuse)
    with host_lock(Root.at(tmp_path), "mine"):
        pass


def _hold(folder: str, ready: int, until: int) -> None:
    with host_lock(Root.at(folder), "rearrange everything"):
        os.write(ready, b"x")
        os.read(until, 1)


def test_another_process_is_named_with_its_reason(tmp_path: Path) -> None:
    ready_read, ready_write = os.pipe()
    until_read, until_write = os.pipe()
    fork = multiprocessing.get_context("fork")
    holder = fork.Process(target=_hold, args=(str(tmp_path), ready_write, until_read))
    holder.start()
    os.read(ready_read, 1)
    try:
        with (
            pytest.raises(
                ConflictError, match=rf"by process {holder.pid} \(rearrange everything\)"
            ),
            host_lock(Root.at(tmp_path), "mine", timeout_s=0.05),
        ):
            pass
    finally:
        os.write(until_write, b"x")
        holder.join()
        for fd in (ready_read, ready_write, until_read, until_write):
            os.close(fd)
    with host_lock(Root.at(tmp_path), "mine", timeout_s=1):
        pass
