"""Unpacked layers on a real overlayfs, and what only root can put on a disk."""

from __future__ import annotations

import os
import stat
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime.image.model import (
    OCI_CONFIG,
    OCI_LAYER,
    Configuration,
    Descriptor,
    Manifest,
    Platform,
)
from runtime.image.store import ImageStore
from runtime.root import Root
from tests.support.tarball import END, digest, file, folder, hardlink, header, pax, symlink

pytestmark = pytest.mark.kernel

# struct vfs_cap_data, revision 2: cap_net_bind_service permitted and effective.
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)


def put_image(store: ImageStore, *tars: bytes) -> str:
    """Store an image with the given layers, lowest first."""
    store.prepare()
    layers = tuple(
        Descriptor(OCI_LAYER, store.blobs.put(tar + END), len(tar + END)) for tar in tars
    )
    config = Configuration(
        Platform.host(), diff_ids=tuple(layer.digest for layer in layers)
    ).to_bytes()
    store.blobs.put(config)
    return store.blobs.put(Manifest(Descriptor.of(OCI_CONFIG, config), layers).to_bytes())


@contextmanager
def mounted(world: Path, layers: tuple[str, ...]) -> Iterator[Path]:
    """Mount *layers*, lowest first, below an empty upper folder."""
    for name in ("merged", "upper", "work"):
        (world / name).mkdir(exist_ok=True)
    lower = ":".join(reversed(layers))
    options = f"lowerdir={lower},upperdir={world}/upper,workdir={world}/work"
    target = world / "merged"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, target], check=True)
    try:
        yield target
    finally:
        subprocess.run(["umount", target], check=True)


def names(top: Path) -> list[str]:
    return sorted(str(path.relative_to(top)) for path in top.rglob("*"))


LOWER = folder(b"d") + file(b"d/a", b"1") + file(b"d/b", b"1") + file(b"f", b"1")
LOWER += folder(b"gone/deep") + file(b"gone/deep/x", b"1") + folder(b"opaque") + file(b"opaque/x")


def test_whiteouts_hide_what_lies_below(world: Path) -> None:
    store = ImageStore(Root.at(world))
    upper = folder(b"d") + file(b"d/.wh.a") + file(b".wh.f") + file(b".wh.gone")
    upper += folder(b"opaque") + file(b"opaque/.wh..wh..opq") + file(b"opaque/new", b"2")
    upper += file(b".wh..wh.plnk") + folder(b".wh..wh.aufs")
    layers = store.layers(put_image(store, LOWER, upper))
    with mounted(world, layers) as merged:
        assert names(merged) == ["d", "d/b", "opaque", "opaque/new"]
    assert stat.S_ISCHR((Path(layers[1]) / "f").lstat().st_mode)


def test_opaque_mark_may_come_after_the_content(world: Path) -> None:
    store = ImageStore(Root.at(world))
    upper = file(b"opaque/new", b"2") + file(b"opaque/.wh..wh..opq")
    with mounted(world, store.layers(put_image(store, LOWER, upper))) as merged:
        assert os.listdir(merged / "opaque") == ["new"]


@pytest.mark.parametrize("whiteout_first", [True, False])
def test_whiteout_hides_the_lower_layer_but_not_its_own(whiteout_first: bool, world: Path) -> None:
    store = ImageStore(Root.at(world))
    content = file(b"d/c", b"2") + file(b"f", b"2")
    whiteouts = file(b".wh.d") + file(b".wh.f")
    upper = whiteouts + content if whiteout_first else content + whiteouts
    with mounted(world, store.layers(put_image(store, LOWER, upper))) as merged:
        assert os.listdir(merged / "d") == ["c"]
        assert (merged / "f").read_bytes() == b"2"


def test_opaque_root_hides_all_layers_below(world: Path) -> None:
    store = ImageStore(Root.at(world))
    image = put_image(store, LOWER, LOWER, file(b".wh..wh..opq") + file(b"only", b"x"))
    layers = store.layers(image)
    assert len(layers) == 1
    with mounted(world, layers) as merged:
        assert os.listdir(merged) == ["only"]


def test_types_change_between_layers(world: Path) -> None:
    store = ImageStore(Root.at(world))
    upper = file(b"d", b"now a file") + folder(b"f") + file(b"f/x", b"2") + symlink(b"gone", b"f")
    with mounted(world, store.layers(put_image(store, LOWER, upper))) as merged:
        assert (merged / "d").read_bytes() == b"now a file"
        assert (merged / "f/x").read_bytes() == b"2"
        assert os.readlink(merged / "gone") == "f"


def test_parents_a_layer_does_not_describe_keep_their_attributes(world: Path) -> None:
    store = ImageStore(Root.at(world))
    lower = folder(b"tmp", mode=0o1777) + folder(b"home/me", mode=0o700, uid=1000, gid=1000)
    upper = file(b"tmp/x", b"x") + file(b"home/me/.profile", b"x", uid=1000)
    plain = put_image(store, upper)
    image = put_image(store, lower, upper)
    other = put_image(store, folder(b"tmp", mode=0o755), upper)
    with mounted(world, store.layers(image)) as merged:
        assert stat.S_IMODE((merged / "tmp").stat().st_mode) == 0o1777
        home = (merged / "home/me").stat()
        assert (stat.S_IMODE(home.st_mode), home.st_uid, home.st_gid) == (0o700, 1000, 1000)
    # The same layer on its own, or where the defaults are right, is not unpacked again.
    assert store.layers(plain)[0] == store.layers(other)[1] != store.layers(image)[1]
    store.tag("a", image)
    assert len(store.gc(grace_s=0).layers) == 1
    assert len(store.layers(image)) == 2


def test_owners_set_user_id_and_capabilities(world: Path) -> None:
    store = ImageStore(Root.at(world))
    tar = file(b"su", b"x", mode=0o4755, uid=0) + file(b"mine", b"x", mode=0o6750, uid=33, gid=33)
    tar += pax({"SCHILY.xattr.security.capability": CAPABILITY}) + file(b"ping", b"x", uid=5)
    tar += pax({"SCHILY.xattr.user.note": "hi"}) + folder(b"d", mode=0o2775, uid=7, gid=8)
    tar += (
        pax({"uid": "3000000", "gid": "3000000"}) + symlink(b"l", b"su") + file(b"d/f", b"x", gid=0)
    )
    tar += hardlink(b"again", b"ping")
    (layer,) = store.layers(put_image(store, tar))
    top = Path(layer)

    def of(name: str) -> tuple[int, int, int]:
        status = (top / name).lstat()
        return (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)

    assert of("su") == (0o4755, 0, 0)
    assert of("mine") == (0o6750, 33, 33)
    assert of("d") == (0o2775, 7, 8)
    assert of("d/f") == (0o644, 0, 0)  # no group passed on by the folder's set-group-id
    assert of("l")[1:] == (3000000, 3000000)
    assert os.getxattr(top / "ping", "security.capability") == CAPABILITY
    assert os.getxattr(top / "again", "security.capability") == CAPABILITY
    assert os.getxattr(top / "d", "user.note") == b"hi"


def test_devices_are_made_and_recorded(world: Path) -> None:
    store = ImageStore(Root.at(world))
    tar = folder(b"dev") + header(b"dev/null", kind=b"3", mode=0o666, device=(1, 3))
    tar += header(b"dev/disk", kind=b"4", mode=0o660, device=(8, 1), gid=6)
    (layer,) = store.layers(put_image(store, tar))
    null, disk = (Path(layer) / "dev/null").stat(), (Path(layer) / "dev/disk").stat()
    assert stat.S_ISCHR(null.st_mode)
    assert (null.st_rdev, stat.S_IMODE(null.st_mode)) == (os.makedev(1, 3), 0o666)
    assert stat.S_ISBLK(disk.st_mode)
    assert (disk.st_rdev, disk.st_gid) == (os.makedev(8, 1), 6)
    unpacked = store.unpacked.find(digest(tar + END)[7:])
    assert unpacked is not None
    assert unpacked.applied.devices == ("c 1:3 dev/null", "b 8:1 dev/disk")
