"""The store: content by digest, and names."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from runtime.errors import ImageError, NotFoundError
from runtime.image.digest import digest_of
from runtime.image.model import ImageConfig
from runtime.image.store import ImageStore
from runtime.root import Root
from tests.support.stored import blobs_of, put_image


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
