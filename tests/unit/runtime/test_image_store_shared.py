"""A store that several use at once, and that some of them leave in the middle."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from runtime.container.config import ContainerConfig
from runtime.container.layers import ensure_layers
from runtime.errors import ConflictError
from runtime.image import apply, unpack, unswept
from runtime.image import lock as lock_module
from runtime.image.lock import StoreLock
from runtime.image.store import ImageStore
from runtime.root import Root
from runtime.spec import Process, Spec
from tests.support.stored import put_image

SPAWN = multiprocessing.get_context("spawn")


def _tag_many(top: str, number: int) -> None:
    store = ImageStore(Root.at(top))
    for turn in range(20):
        with store.unswept.changing():
            image = put_image(store, f"{number}-{turn}".encode())
            store.tag(f"image-{number}-{turn}", image)
            store.tag("contended", image)
            put_image(store, b"shared by all")


def test_concurrent_writers_lose_nothing(store: ImageStore) -> None:
    top = str(store.root.state.parent)
    workers = [SPAWN.Process(target=_tag_many, args=(top, number)) for number in range(4)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        store.gc()
        store.list()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert len(store.list()) == 4 * 20 + 1
    assert store.verify() == ()
    assert list((store.folder / "tmp").iterdir()) == []


def _unpack(top: str, image: str, barrier: object) -> None:
    store = ImageStore(Root.at(top))
    barrier.wait()  # type: ignore[attr-defined]
    (folder,) = store.layers(image)
    assert (Path(folder) / "content").read_bytes() == b"x" * (1 << 20)


def test_a_layer_that_another_unpacks_is_not_waited_for_without_end(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that may be stopped, or its disk hang."""
    image = put_image(store, b"one")
    begun, go_on = threading.Event(), threading.Event()
    really = apply.apply_layer

    def slow(*args: Any, **named: Any) -> Any:
        begun.set()
        go_on.wait()
        return really(*args, **named)

    monkeypatch.setattr(apply, "apply_layer", slow)
    monkeypatch.setattr(unpack, "_WAIT_S", 0.05)
    with ThreadPoolExecutor(1) as other:
        first = other.submit(store.layers, image)
        begun.wait()
        try:
            told = f"is being unpacked by process {os.getpid()}, for 0.05 s"
            with pytest.raises(ConflictError, match=told):
                store.layers(image)
        finally:
            go_on.set()
        unpacked = first.result()  # on a busy host it takes longer than is waited here
        assert store.layers(image) == unpacked


def test_nobody_waits_to_note_that_a_layer_is_on_the_disk(store: ImageStore) -> None:
    (folder,) = store.layers(put_image(store, b"one"))
    os.utime(Path(folder).parent / "layer.json", (1, 1))
    other = os.open(Path(folder).parent, os.O_RDONLY)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        store.layers(put_image(store, b"one"))
    finally:
        os.close(other)


def test_a_sweep_is_not_waited_for_without_end(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unswept, "_WAIT_S", 0.05)
    store.unswept.set_due()
    told = f"is being swept by process {os.getpid()}, for 0.05 s"
    with store.unswept.sweeping(), pytest.raises(ConflictError, match=told):
        store.unswept.set_due()
    assert not store.unswept.is_due
    store.unswept.set_due()
    assert store.unswept.is_due


def test_two_processes_unpack_the_same_layer_once(store: ImageStore) -> None:
    image = put_image(store, b"x" * (1 << 20))
    barrier = SPAWN.Barrier(3)
    top = str(store.root.state.parent)
    workers = [SPAWN.Process(target=_unpack, args=(top, image, barrier)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 3
    assert len(list(store.unpacked.folder.iterdir())) == 1


def test_killed_at_random_moments_the_store_is_whole(store: ImageStore, tmp_path: Path) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from tests.unit.runtime.test_image_store import put_image, ImageStore, Root\n"
        "s = ImageStore(Root.at(sys.argv[1])); print('ready', flush=True); n = 0\n"
        "while True:\n"
        "    n += 1; i = put_image(s, b'x' * (n * 5000)); s.tag(f'n{n % 7}', i); s.layers(i)\n"
    )
    repository = str(Path(__file__).parents[3])
    for turn in range(8):
        child = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path), repository], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        time.sleep(0.01 * turn)  # the moment is what is random here, nothing is awaited
        child.kill()
        child.wait()
        child.stdout.close()
        assert store.verify() == ()
        for row in store.list():
            (folder,) = store.layers(row.digest)
            assert set((Path(folder) / "content").read_bytes()) == {ord("x")}
    store.gc(grace_s=0)
    assert list((store.folder / "tmp").iterdir()) == []
    assert not [path for path in store.unpacked.folder.iterdir() if path.name.startswith(".")]


def test_layer_of_an_earlier_boot_is_unpacked_again(store: ImageStore) -> None:
    image = put_image(store, b"one")
    (folder,) = store.layers(image)
    marker = Path(folder).parent / "layer.json"
    (Path(folder) / "content").write_bytes(b"")  # as a crash of the machine leaves files
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    marker.write_text(marker.read_text().replace(boot, "another-boot"))
    assert store.layers(image) == (folder,)
    assert (Path(folder) / "content").read_bytes() == b"one"
    assert os.listdir(store.unpacked.folder) == [Path(folder).parent.name]


@pytest.mark.parametrize(
    "torn", [b"", b"[]", b"null", b"5", b'{"version": 1}', b'{"version"', b"\xff"]
)
def test_a_layer_whose_marker_is_torn_is_unpacked_again(store: ImageStore, torn: bytes) -> None:
    image = put_image(store, b"one")
    (folder,) = store.layers(image)
    (Path(folder).parent / "layer.json").write_bytes(torn)
    (Path(folder) / "content").write_bytes(b"")
    ensure_layers(store.root, _config(image, folder))
    assert (Path(folder) / "content").read_bytes() == b"one"


def test_a_start_notes_that_layers_had_time_to_reach_the_disk(store: ImageStore) -> None:
    image = put_image(store, b"one")
    (folder,) = store.layers(image)
    marker = Path(folder).parent / "layer.json"
    ensure_layers(store.root, _config(image, folder))
    assert '"boot": ""' not in marker.read_text()
    os.utime(marker, (1, 1))
    ensure_layers(store.root, _config(image, folder))
    assert '"boot": ""' in marker.read_text()


def _config(image: str, folder: str) -> ContainerConfig:
    return ContainerConfig("a", "a", Spec(Process(("true",))), layers=(folder,), image=image)


def test_layer_that_had_time_to_reach_the_disk_survives_a_boot(store: ImageStore) -> None:
    image = put_image(store, b"one")
    (folder,) = store.layers(image)
    marker = Path(folder).parent / "layer.json"
    os.utime(marker, (1, 1))
    store.layers(image)
    assert '"boot": ""' in marker.read_text()


def test_layers_are_on_the_disk_when_the_host_goes_down_in_order(store: ImageStore) -> None:
    store.unpacked.settle_all()  # nothing is there yet
    folders = [store.layers(put_image(store, content))[0] for content in (b"one", b"two")]
    for _ in range(2):
        store.unpacked.settle_all()
        for folder in folders:
            assert '"boot": ""' in (Path(folder).parent / "layer.json").read_text()


def test_containers_of_one_image_started_at_once_note_it_once(store: ImageStore) -> None:
    image = put_image(store, b"one")
    (folder,) = store.layers(image)
    marker = Path(folder).parent / "layer.json"
    settled = marker.read_text()
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            marker.write_text(settled)
            os.utime(marker, (1, 1))
            found = [pool.submit(store.layers, image) for _ in range(8)]
            assert {future.result() for future in found} == {(folder,)}
            assert '"boot": ""' in marker.read_text()
    assert sorted(os.listdir(marker.parent)) == ["fs", "layer.json"]


def test_lock_that_is_never_given_back_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_module, "_WAIT_S", 0.05)
    lock = StoreLock(tmp_path / "lock")
    with lock.shared(), lock.shared():
        wanted = lock.exclusive()
        with pytest.raises(ConflictError, match="locked by another"):
            wanted.__enter__()
