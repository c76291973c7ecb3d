"""The store: content by digest, names, concurrent use, sweeping, and being killed."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import ConflictError, ImageError, NotFoundError
from runtime.image import apply, unpack, unswept
from runtime.image import lock as lock_module
from runtime.image.digest import digest_of
from runtime.image.gc import GcReport, Loose
from runtime.image.lock import StoreLock
from runtime.image.model import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Configuration,
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    Platform,
)
from runtime.image.mutate import Overrides, override
from runtime.image.store import ImageStore
from runtime.root import Root
from tests.support.tarball import END, file

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    made = ImageStore(Root.at(tmp_path))
    made.prepare()
    return made


def put_image(store: ImageStore, content: bytes, *, config: ImageConfig | None = None) -> str:
    """Store an image of one layer with one file."""
    layer = file(b"content", content) + END
    digest = store.blobs.put(layer)
    document = Configuration(Platform.host(), config or ImageConfig(), (digest,)).to_bytes()
    store.blobs.put(document)
    manifest = Manifest(
        Descriptor.of(OCI_CONFIG, document), (Descriptor(OCI_LAYER, digest, len(layer)),)
    )
    return store.blobs.put(manifest.to_bytes())


def blobs_of(store: ImageStore) -> set[str]:
    return set(store.blobs.digests())


def test_making_a_store_and_asking_it_writes_nothing(tmp_path: Path) -> None:
    store = ImageStore(Root.at(tmp_path))
    assert store.list() == ()
    assert store.resolve("a") is None
    assert store.untag("a") is False
    assert store.gc().blobs == ()
    assert store.verify() == ()
    assert list(tmp_path.iterdir()) == []


def test_names_point_at_images(store: ImageStore) -> None:
    one, two = put_image(store, b"one"), put_image(store, b"two")
    store.tag("shop/web", one)
    store.tag("shop/db", one)
    store.tag("shop/web", two)
    store.tag("shop/web", two)
    assert store.resolve("shop/web") == two
    assert store.resolve(one) == one
    assert [(row.name, row.digest) for row in store.list()] == [("shop/db", one), ("shop/web", two)]
    assert all(row.size > 0 and row.tagged_at.endswith("Z") for row in store.list())
    assert store.untag("shop/web")
    assert not store.untag("shop/web")
    assert store.remove(one) == ("shop/db",)
    assert store.list() == ()


@pytest.mark.parametrize("name", ["", "-a", "a b", "a\n", "ä", "x" * 256, "../x", "a;b"])
def test_bad_names_are_refused(name: str, store: ImageStore) -> None:
    digest = put_image(store, b"one")
    with pytest.raises(ImageError, match="not an image name"):
        store.tag(name, digest)


def test_unknown_image_cannot_be_tagged_or_read(store: ImageStore) -> None:
    missing = digest_of(b"missing")
    with pytest.raises(NotFoundError, match=missing):
        store.tag("a", missing)
    with pytest.raises(NotFoundError, match=missing):
        store.config(missing)
    with pytest.raises(ImageError, match="not a digest"):
        store.config("sha256:abc")


def test_damaged_content_is_never_used(store: ImageStore) -> None:
    config = ImageConfig(command=("/bin/true",))
    image = put_image(store, b"one", config=config)
    store.tag("a", image)
    assert store.config(image) == config
    path = store.blobs.path(store.manifest(image).config.digest)
    path.write_bytes(path.read_bytes().replace(b"true", b"evil"))
    with pytest.raises(ImageError, match="content is damaged"):
        store.config(image)
    assert path.name in store.verify()[0].what
    with pytest.raises(ImageError, match="drop or replace it"):
        store.gc(grace_s=0)
    store.untag("a")
    store.gc(grace_s=0)
    assert blobs_of(store) == set()


def test_damaged_layer_is_never_unpacked(store: ImageStore) -> None:
    image = put_image(store, b"one")
    path = store.blobs.path(store.manifest(image).layers[0].digest)
    path.write_bytes(path.read_bytes().replace(b"one", b"two"))
    with pytest.raises(ImageError, match="content is damaged"):
        store.layers(image)
    assert list(store.unpacked.folder.iterdir()) == []


def test_verify_names_what_is_missing(store: ImageStore) -> None:
    image = put_image(store, b"one")
    store.tag("a", image)
    layer = store.manifest(image).layers[0].digest
    store.blobs.delete(layer)
    assert [(d.what, d.why) for d in store.verify()] == [("a", f"{layer} is missing")]


def test_writer_that_gives_up_leaves_nothing(store: ImageStore) -> None:
    with store.blobs.writer() as writer:
        writer.write(b"half")
    with store.blobs.writer(digest=digest_of(b"wanted")) as writer:
        writer.write(b"other")
        with pytest.raises(ImageError, match="damaged"):
            writer.commit()
    assert blobs_of(store) == set()
    assert list((store.folder / "tmp").iterdir()) == []


def test_files_are_private(store: ImageStore) -> None:
    store.tag("a", put_image(store, b"one"))
    for path in [store.folder, *store.folder.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_sweep_keeps_what_is_named_or_live_and_spares_the_young(store: ImageStore) -> None:
    named, live, loose = (put_image(store, name) for name in (b"named", b"live", b"loose"))
    store.tag("a", named)
    for image in (named, live, loose):
        store.layers(image)
    before = blobs_of(store)
    assert store.gc([live], grace_s=60).blobs == ()
    assert blobs_of(store) == before
    report = store.gc([live], grace_s=0)
    assert set(report.blobs) == before - blobs_of(store)
    assert loose in report.blobs
    assert len(report.blobs) == 3
    assert len(report.layers) == 1
    assert report.freed > 0
    assert store.config(named)
    assert store.layers(live)
    with pytest.raises(NotFoundError):
        store.config(loose)
    assert store.gc([live], grace_s=0).blobs == ()


def test_the_young_are_spared_only_while_somebody_builds(store: ImageStore) -> None:
    loose = put_image(store, b"loose")
    with store.unswept.changing():
        assert store.loose().blobs == ()
        assert store.gc().blobs == ()
    assert store.unswept.is_due
    assert loose in store.loose().blobs
    assert loose in store.gc().blobs
    assert not store.unswept.is_due
    assert store.loose() == Loose((), (), ())


def test_a_dropped_name_makes_a_sweep_due(store: ImageStore) -> None:
    store.tag("a", put_image(store, b"one"))
    assert store.gc().blobs == ()
    assert not store.unswept.is_due
    store.untag("a")
    assert store.unswept.is_due
    assert len(store.gc().blobs) == 3


def test_sweep_follows_an_index(store: ImageStore) -> None:
    image = put_image(store, b"one")
    size = store.blobs.size(image)
    here = Descriptor(OCI_MANIFEST, image, size, platform=Platform.host())
    away = Descriptor(OCI_MANIFEST, digest_of(b"never fetched"), 5, platform=Platform("z80"))
    index = store.blobs.put(Index((away, here)).to_bytes())
    store.tag("multi", index)
    assert store.describe(index).media_type == OCI_INDEX
    assert store.gc(grace_s=0).blobs == ()
    assert store.config(index) == ImageConfig()
    assert len(store.layers(index)) == 1


def test_storing_again_renews_the_grace(store: ImageStore) -> None:
    digest = store.blobs.put(b"content")
    os.utime(store.blobs.path(digest), (1, 1))
    store.blobs.put(b"content")
    assert store.gc(grace_s=60).blobs == ()


def test_downloaded_packages_are_bounded(store: ImageStore) -> None:
    debs = store.folder / "debs"
    debs.mkdir()
    store.tag("a", put_image(store, b"one"))
    for number in range(4):
        (debs / f"{number}.deb").write_bytes(bytes(100))
        os.utime(debs / f"{number}.deb", (number, number))
    store.gc(debs_bytes=250)
    assert sorted(os.listdir(debs)) == ["2.deb", "3.deb"]


def test_downloaded_packages_go_with_the_last_image(store: ImageStore) -> None:
    digest = put_image(store, b"one")
    store.tag("a", digest)
    package = store.folder / "debs" / "x.deb"
    package.parent.mkdir()
    package.write_bytes(b"x")
    store.gc()
    assert package.exists()
    store.untag("a")
    store.gc([digest])
    assert package.exists()
    store.gc()
    assert not package.exists()


def test_sweep_removes_what_the_dead_left(store: ImageStore) -> None:
    script = (
        "import os, signal; from pathlib import Path\n"
        "from runtime.root import Root; from runtime.image.store import ImageStore\n"
        "from runtime.image.lock import create_temporary_folder\n"
        f"s = ImageStore(Root.at({str(store.root.state.parent)!r})); w = s.blobs.writer()\n"
        "w.write(b'half'); p, fd = create_temporary_folder(s.unpacked.folder)\n"
        "(p / 'fs').mkdir(); (p / 'fs' / 'x').touch()\n"
        "print('ready', flush=True); signal.pause()\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    assert store.gc(grace_s=0).leftovers == 0
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert store.gc(grace_s=0).leftovers == 2
    assert list((store.folder / "tmp").iterdir()) == []
    assert list(store.unpacked.folder.iterdir()) == []


def test_what_vanishes_while_it_is_looked_at_is_no_matter(store: ImageStore) -> None:
    """A link to nothing is what that looks like: listed, and not there to be opened."""
    gone = "a" * 64
    folders = [store.folder / "tmp", store.key_cache, store.unpacked.folder]
    for path in [folder / ".tmp-x" for folder in folders] + [
        store.blobs.path(f"sha256:{gone}"),
        store.unpacked.folder / gone,
    ]:
        path.symlink_to("nothing")
    assert store.loose() == Loose((), (), ())
    assert store.gc(grace_s=0) == GcReport((), (), 0, 0)


def test_a_sweep_that_was_killed_is_in_nobodys_way(store: ImageStore) -> None:
    (layer,) = store.layers(put_image(store, b"one"))
    folder = Path(layer).parent
    shutil.copytree(folder, folder.with_name(f".tmp-gone-{folder.name}"))
    report = store.gc(grace_s=0)
    assert (report.layers, report.leftovers) == ((folder.name,), 1)
    assert list(store.unpacked.folder.iterdir()) == []


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
        assert store.layers(image) == first.result()


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


def test_layer_that_had_time_to_reach_the_disk_survives_a_boot(store: ImageStore) -> None:
    image = put_image(store, b"one")
    (folder,) = store.layers(image)
    marker = Path(folder).parent / "layer.json"
    os.utime(marker, (1, 1))
    store.layers(image)
    assert '"boot": ""' in marker.read_text()


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


def test_overrides_are_merged_over_the_image() -> None:
    config = ImageConfig(
        entrypoint=("/entry",),
        command=("serve",),
        env={"A": "1", "B": "2"},
        labels={"x": "1"},
        user="redis",
    )
    merged = override(config, Overrides(env={"B": "3", "C": "4"}, labels={"y": "2"}, workdir="/w"))
    assert merged.env == {"A": "1", "B": "3", "C": "4"}
    assert merged.labels == {"x": "1", "y": "2"}
    assert (merged.entrypoint, merged.command) == (("/entry",), ("serve",))
    assert (merged.user, merged.workdir) == ("redis", "/w")
    assert override(config, Overrides(command=("x",))).entrypoint == ("/entry",)
    alone = override(config, Overrides(entrypoint=("/new",)))
    assert (alone.entrypoint, alone.command) == (("/new",), ())
    assert override(config, Overrides()) == config


def test_documents_survive_a_round_trip() -> None:
    config = ImageConfig(  # noqa: S604  # the format's own word
        entrypoint=("/e",),
        command=("c",),
        env={"PATH": "/bin", "EMPTY": "", "EQ": "a=b"},
        workdir="/w",
        user="1:2",
        stop_signal="SIGINT",
        labels={"l": "ü"},
        exposed_ports=("80/tcp",),
        volumes=("/data",),
        healthcheck={"Test": ["CMD", "true"], "Interval": 1},
        shell=("/bin/sh", "-c"),
        on_build=("RUN x",),
    )
    document = Configuration(
        Platform("arm", "linux", "v7"), config, (digest_of(b"a"),), other={"k": [1]}
    )
    assert Configuration.from_bytes(document.to_bytes()) == document
    manifest = Manifest(Descriptor.of(OCI_CONFIG, b"x"), (), annotations={"a": "b"})
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest


VALID = b'{"mediaType":"a","digest":"sha256:' + b"a" * 64 + b'","size":7}'


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"schemaVersion":1}',
        b'{"schemaVersion":2,"config":5}',
        b'{"schemaVersion":2,"config":{"mediaType":"a","digest":"sha256:zz","size":1}}',
        b'{"schemaVersion":2,"config":{"mediaType":"a","digest":"sha256:'
        + b"a" * 64
        + b'","size":-1}}',
        b"[" * 100000,
        b"\xff",
        b'{"schemaVersion":2,"config":%s,"annotations":{"a":"\\ud800"}}' % VALID,
        b'{"schemaVersion":2,"config":%s,"annotations":{"\xed\xb0\x80":"a"}}' % VALID,
        b'{"schemaVersion":2,"config":%s}' % VALID.replace(b"7", b"9223372036854775808"),
    ],
)
def test_malformed_documents_are_image_errors(data: bytes) -> None:
    with pytest.raises(ImageError):
        Manifest.from_bytes(data)
    if data not in (b"{}", b'{"schemaVersion":1}') and b"config" not in data:
        with pytest.raises(ImageError):
            Configuration.from_bytes(data)


def test_an_index_that_the_disk_has_no_room_for_leaves_the_old_one(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.catalog.prepare()
    store.catalog._replace("index.json", b"{}")
    room = 20
    write = os.write

    def fill(fd: int, data: bytes) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "full")
        taken = write(fd, data[:room])
        room -= taken
        return taken

    monkeypatch.setattr(os, "write", fill)
    with pytest.raises(OSError, match="full"):
        store.catalog._replace("index.json", b"{" + b" " * 100 + b"}")
    assert store.catalog.index_file.read_bytes() == b"{}"
    assert not list((store.folder / "tmp").iterdir())


def test_a_damaged_index_is_named(store: ImageStore) -> None:
    store.catalog.prepare()
    store.catalog.index_file.write_bytes(b"")
    with pytest.raises(ImageError, match=r"index\.json is damaged \(empty\)"):
        store.catalog.tags()
