"""Layers made to do harm: whatever they do, nothing outside their folder may change."""

from __future__ import annotations

import gzip
import os
import random
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.errors import ImageError, LayerError
from runtime.image.applied import Applied
from runtime.image.apply import apply_layer
from runtime.image.limits import Limits
from runtime.image.tarreader import TarReader
from tests.support.tarball import (
    END,
    file,
    folder,
    gnu_long,
    hardlink,
    header,
    padded,
    pax,
    sign,
    snapshot,
    symlink,
)

LIMITS = Limits(entries=1000, bytes=50 << 20, path=1024, depth=20, header=1 << 16)
DEEP = b"/".join([b"d"] * 21)
UP = b"../" * 20


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A folder beside the layer's; afterwards it must be as it was."""
    outside = tmp_path / "outside"
    outside.mkdir(0o755)
    (outside / "secret").write_text("original")
    (outside / "empty").mkdir()
    before = snapshot(outside)
    yield outside
    assert snapshot(outside) == before
    assert sorted(os.listdir(tmp_path)) == ["layer", "outside"]


def unpack(tmp_path: Path, tar: bytes, *, chunk: int = 700) -> tuple[Path, Applied]:
    """Unpack *tar*, given in pieces that fit no block, into a fresh folder."""
    target = tmp_path / "layer"
    target.mkdir()
    pieces = (tar[at : at + chunk] for at in range(0, len(tar), chunk))
    return target, apply_layer(TarReader(pieces, limits=LIMITS), target, limits=LIMITS)


REFUSED = {
    "parent-of-root": (file(b"../outside/new", b"x"), "leave its root"),
    "parent-in-the-middle": (file(b"a/../../outside/new", b"x"), "leave its root"),
    "parent-that-would-come-back": (file(b"a/../b", b"x"), "leave its root"),
    "only-parent": (folder(b".."), "leave its root"),
    "folder-entry-above": (folder(b"../outside", mode=0o777), "leave its root"),
    "hardlink-above": (hardlink(b"stolen", b"../outside/secret"), "leave its root"),
    "hardlink-to-nothing": (hardlink(b"a", b"b"), "not in the layer"),
    "hardlink-to-itself": (file(b"a", b"x") + hardlink(b"a", b"a"), "to itself"),
    "hardlink-to-root": (hardlink(b"a", b"/"), "to the root"),
    "hardlink-to-folder": (folder(b"a") + hardlink(b"b", b"a"), "not permitted"),
    "symlinked-hardlink-target": (
        symlink(b"dir", UP + b"outside") + hardlink(b"stolen", b"dir/secret"),
        "not in the layer",
    ),
    "whiteout-of-parent": (file(b"a/.wh..."), "hides no name"),
    "whiteout-of-self": (file(b"a/.wh.."), "hides no name"),
    "whiteout-of-nothing": (file(b".wh."), "hides no name"),
    "below-a-whiteout": (file(b".wh.a/b", b"x"), "below a whiteout"),
    "link-circle": (symlink(b"a", b"b") + symlink(b"b", b"a") + file(b"a/x", b"x"), "too many"),
    "link-to-itself": (symlink(b"a", b"a/a") + file(b"a/x", b"x"), "too many"),
    "through-a-file": (file(b"a", b"x") + file(b"a/b", b"x"), "not a folder"),
    "root-is-a-file": (file(b"./", b"") + file(b".", b"x"), "root of a layer"),
    "root-is-a-link": (symlink(b"/", b"/etc"), "root of a layer"),
    "too-deep": (folder(DEEP) + file(DEEP + b"/x"), "folders deep"),
    "deep-through-links": (
        folder(b"/".join([b"d"] * 15))
        + symlink(b"d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/up", b"..")
        + symlink(b"l", b"/".join([b"d"] * 15))
        + folder(b"l/" + b"/".join([b"e"] * 8))
        + file(b"l/" + b"/".join([b"e"] * 8) + b"/x"),
        "folders deep",
    ),
    "long-name": (pax({"path": b"a" * 2000}) + file(b"x"), "more than 1024 bytes"),
    "long-part": (pax({"path": b"a" * 300}) + file(b"x"), "cannot unpack"),
    "nul-in-pax-name": (pax({"path": b"a\0b"}) + file(b"x"), "bad name"),
    "empty-name": (file(b""), "bad name"),
    "unknown-type": (header(b"x", kind=b"Z"), "unknown type"),
    "device-number": (header(b"x", kind=b"3", device=(0o7777777, 0)), "out of range"),
    "negative-size": (header(b"x", raw_size=b"\xff" * 12), "negative"),
    "letters-in-size": (header(b"x", raw_size=b"00000banana\0"), "bad number"),
    "underscore-in-size": (header(b"x", raw_size=b"0000001_000\0"), "bad number"),
    "huge-size": (header(b"x", raw_size=b"\x80" + b"\x7f" + b"\xff" * 10), "more than"),
    "pax-huge-size": (pax({"size": "9" * 30}) + file(b"x"), "size is"),
    "pax-negative-size": (pax({"size": "-5"}) + file(b"x"), "size is"),
    "pax-bad-time": (pax({"mtime": "1e99"}) + file(b"x"), "mtime is"),
    "pax-record-length": (
        header(b"p", kind=b"x", size=8) + padded(b"99 a=bc\n") + file(b"x"),
        "record length",
    ),
    "pax-no-equals": (
        header(b"p", kind=b"x", size=5) + padded(b"5 ab\n") + file(b"x"),
        "key=value",
    ),
    "pax-zero-length": (
        header(b"p", kind=b"x", size=6) + padded(b"0 a=b\n") + file(b"x"),
        "length",
    ),
    "giant-pax": (header(b"p", kind=b"x", size=1 << 30) + END, "extended header of"),
    "giant-gnu-name": (header(b"p", kind=b"L", size=1 << 30) + END, "extended header of"),
    "global-headers-without-end": (
        b"".join(pax({f"k{n}": b"v" * 40000}, kind=b"g") for n in range(3)) + file(b"x"),
        "global headers",
    ),
    "ends-after-pax": (pax({"path": "a"}) + END, "ends after"),
    "wrong-checksum": (file(b"x")[:100] + b"9" + file(b"x")[101:], "checksum"),
    "cut-in-data": (header(b"x", size=4000) + b"a" * 600, "cut short"),
    "single-zero-block": (bytes(512) + file(b"x"), "single empty block"),
    "garbage": (random.Random(1).randbytes(2048), "checksum|bad number"),
    "sparse-overlap": (
        pax({"GNU.sparse.size": "100", "GNU.sparse.map": "0,60,10,40"}) + file(b"x", b"a" * 100),
        "overlaps",
    ),
    "sparse-beyond-end": (
        pax({"GNU.sparse.size": "10", "GNU.sparse.map": "0,60"}) + file(b"x", b"a" * 60),
        "does not fit",
    ),
    "sparse-too-big": (
        pax({"GNU.sparse.size": str(1 << 50), "GNU.sparse.map": "0,5"}) + file(b"x", b"a" * 5),
        "more than",
    ),
    "sparse-odd-map": (
        pax({"GNU.sparse.size": "10", "GNU.sparse.map": "0,5,7"}) + file(b"x", b"a" * 5),
        "malformed",
    ),
    "sparse-endless-map": (
        pax({"GNU.sparse.major": "1", "GNU.sparse.realsize": "10"})
        + file(b"x", padded(b"99999999\n")),
        "malformed",
    ),
    "old-sparse-endless-map": (
        sign(header(b"x", kind=b"S")[:482] + b"\1" + bytes(29))
        + (b"00000000000\0" * 42 + b"\1" + bytes(7)) * 200,
        "overlaps|too long|does not fit",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_layer_is_refused_and_nothing_outside_changes(
    case: str, tmp_path: Path, victim: Path
) -> None:
    tar, reason = REFUSED[case]
    with pytest.raises(LayerError, match=reason):
        unpack(tmp_path, tar + END)


def test_archive_that_stops_in_a_header_is_refused(tmp_path: Path, victim: Path) -> None:
    with pytest.raises(LayerError, match="cut short"):
        unpack(tmp_path, file(b"a", b"x") + file(b"b")[:300])


def test_absolute_names_start_at_the_root_of_the_layer(tmp_path: Path, victim: Path) -> None:
    inside = os.fsencode(victim) + b"/secret"
    layer, _ = unpack(tmp_path, file(inside, b"fake") + file(b"//etc///passwd", b"p") + END)
    assert (layer / inside.decode()[1:]).read_bytes() == b"fake"
    assert (layer / "etc/passwd").read_bytes() == b"p"


@pytest.mark.parametrize("target", [b"/outside", UP + b"outside", b"/../../../outside"])
def test_links_on_the_way_end_at_the_root_of_the_layer(
    target: bytes, tmp_path: Path, victim: Path
) -> None:
    tar = symlink(b"way", target) + file(b"way/secret", b"fake") + hardlink(b"l", b"way/secret")
    layer, _ = unpack(tmp_path, tar + END)
    assert (layer / "outside/secret").read_bytes() == b"fake"
    assert (layer / "l").samefile(layer / "outside/secret")


def test_link_to_an_absolute_path_of_the_host_is_not_followed(tmp_path: Path, victim: Path) -> None:
    tar = symlink(b"way", os.fsencode(victim)) + file(b"way/secret", b"fake")
    tar += folder(b"way/empty", mode=0o777) + symlink(b"way/secret2", b"x")
    layer, _ = unpack(tmp_path, tar + END)
    assert (layer / str(victim)[1:] / "secret").read_bytes() == b"fake"


def test_file_over_a_link_replaces_the_link(tmp_path: Path, victim: Path) -> None:
    secret = os.fsencode(victim / "secret")
    layer, _ = unpack(tmp_path, symlink(b"a", secret) + file(b"a", b"mine", mode=0o777) + END)
    assert not (layer / "a").is_symlink()
    assert (layer / "a").read_bytes() == b"mine"


def test_hardlink_to_a_link_links_the_link(tmp_path: Path, victim: Path) -> None:
    secret = os.fsencode(victim / "secret")
    tar = symlink(b"a", secret) + hardlink(b"b", b"a") + file(b"b", b"mine")
    layer, _ = unpack(tmp_path, tar + END)
    assert os.readlink(layer / "a") == str(victim / "secret")
    assert (layer / "b").read_bytes() == b"mine"


def test_folder_over_a_link_replaces_it_also_for_names_already_looked_up(
    tmp_path: Path, victim: Path
) -> None:
    tar = folder(b"real") + symlink(b"way", b"real") + file(b"way/one", b"1")
    tar += folder(b"way") + file(b"way/two", b"2") + END
    layer, _ = unpack(tmp_path, tar)
    assert sorted(os.listdir(layer / "real")) == ["one"]
    assert sorted(os.listdir(layer / "way")) == ["two"]


def test_folder_swapped_for_a_link_between_two_entries(tmp_path: Path, victim: Path) -> None:
    outside = os.fsencode(victim)
    tar = folder(b"a/b") + file(b"a/b/one", b"1") + symlink(b"a", outside)
    tar += file(b"a/b/two", b"2") + folder(b"a/empty", mode=0o700) + END
    layer, _ = unpack(tmp_path, tar)
    assert os.readlink(layer / "a") == str(victim)
    assert (layer / str(victim)[1:] / "b/two").read_bytes() == b"2"
    assert not (layer / str(victim)[1:] / "b/one").exists()


def test_attributes_at_the_end_do_not_follow_a_late_link(tmp_path: Path, victim: Path) -> None:
    # The folder's mode and time are set last; by then its name is a link to the outside.
    tar = folder(b"a", mode=0o777, mtime=1) + symlink(b"a", os.fsencode(victim)) + END
    layer, _ = unpack(tmp_path, tar)
    assert (layer / "a").is_symlink()


def test_xattrs_of_overlayfs_and_of_the_host_are_dropped(tmp_path: Path, victim: Path) -> None:
    records = {
        f"SCHILY.xattr.{name}": "/etc"
        for name in ("trusted.overlay.redirect", "user.overlay.opaque", "security.selinux")
    }
    layer, applied = unpack(
        tmp_path, pax(records) + file(b"a", b"x") + pax(records) + folder(b"d") + END
    )
    assert os.listxattr(layer / "a") == []
    assert os.listxattr(layer / "d") == []
    assert len(applied.dropped) == 6


def test_entries_are_counted(tmp_path: Path, victim: Path) -> None:
    with pytest.raises(LayerError, match="more than 1000 entries"):
        unpack(tmp_path, file(b"same") * 1001 + END)


def test_bytes_are_counted_with_holes(tmp_path: Path, victim: Path) -> None:
    hole = pax({"GNU.sparse.size": str(20 << 20), "GNU.sparse.map": "0,1"})
    with pytest.raises(LayerError, match="more than"):
        unpack(tmp_path, b"".join(hole + file(b"f%d" % n, b"x") for n in range(3)) + END)


def test_reader_survives_random_damage(tmp_path: Path) -> None:
    """Whatever is flipped, the answer is an unpacked layer or a LayerError."""
    tar = folder(b"d") + pax({"mtime": "5.5", "path": "d/long"}) + file(b"x", b"content" * 99)
    tar += gnu_long(b"d/" + b"n" * 150) + file(b"y", b"z") + symlink(b"d/l", b"long") + END
    chance = random.Random(7)
    for number in range(300):
        damaged = bytearray(tar)
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(len(damaged) - 1024)
            damaged[at] = chance.randrange(256)
            start = at - at % 512
            if chance.random() < 0.7:
                damaged[start : start + 512] = sign(damaged[start : start + 512])
        target = tmp_path / str(number)
        target.mkdir()
        try:
            pieces = iter([bytes(damaged)])
            apply_layer(TarReader(pieces, limits=LIMITS), target, limits=LIMITS)
        except ImageError:
            continue
    assert sorted(os.listdir(tmp_path)) == sorted(map(str, range(300)))


def test_gzip_bomb_costs_no_memory() -> None:
    """A gigabyte of zeros in a megabyte must come out in pieces."""
    from runtime.image.compression import decompress

    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(200)) + packer.flush()

    class Source:
        data = bomb

        def read(self, size: int) -> bytes:
            piece, self.data = self.data[:size], self.data[size:]
            return piece

    stream = decompress(Source())
    total = 0
    while piece := stream.read(1 << 20):
        assert len(piece) <= 1 << 20
        total += len(piece)
    assert total == 200 << 20


def test_gzip_with_something_behind_it_is_refused() -> None:
    import io

    from runtime.image.compression import decompress

    stream = decompress(io.BytesIO(gzip.compress(b"a") + b"garbage"))
    assert stream.read(100) == b"a"
    with pytest.raises(LayerError, match="followed by something else"):
        stream.read(100)
