"""What of a store is swept away, and when."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.errors import ImageError, NotFoundError
from runtime.image.digest import digest_of
from runtime.image.gc import GcReport, Loose
from runtime.image.model import OCI_INDEX, OCI_MANIFEST, Descriptor, ImageConfig, Index, Platform
from runtime.image.store import ImageStore
from tests.support.stored import blobs_of, put_image


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


@pytest.mark.parametrize("lost", ["manifest", "configuration"])
def test_where_a_document_of_an_image_is_lost_its_layers_stay(store: ImageStore, lost: str) -> None:
    """Containers were made from them, and nobody could tell any more which these are."""
    image = put_image(store, b"one")
    layers = store.layers(image)
    config = store.manifest(image).config.digest
    store.blobs.delete(image if lost == "manifest" else config)
    with pytest.raises(ImageError, match=f"image {image} is damaged"):
        store.gc([image], grace_s=0)
    assert all(map(os.path.isdir, layers))


def test_storing_again_puts_right_what_is_damaged(store: ImageStore) -> None:
    digest = store.blobs.put(b"content")
    store.blobs.path(digest).write_bytes(b"")
    assert store.blobs.put(b"content") == digest
    assert store.blobs.read(digest) == b"content"


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
