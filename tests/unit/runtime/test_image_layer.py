"""Layers as they should be: everything a tar can say arrives on disk, and back."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.container.tarcopy import pack
from runtime.image.applied import Applied
from runtime.image.apply import apply_layer
from runtime.image.tarentry import Entry, Kind
from runtime.image.tarreader import TarReader
from runtime.image.tarwriter import TarWriter
from runtime.rootfs.transfer import How
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
    symlink,
)


def unpack(folder_: Path, tar: bytes, *, chunk: int = 1000) -> Applied:
    folder_.mkdir(exist_ok=True)
    pieces = (tar[at : at + chunk] for at in range(0, len(tar), chunk))
    return apply_layer(TarReader(pieces), folder_)


def write(entries: Iterable[tuple[Entry, bytes]]) -> bytes:
    out = io.BytesIO()
    writer = TarWriter(lambda data: out.write(data) and None)
    for entry, data in entries:
        writer.add(entry, [data] if data else [])
    writer.close()
    return out.getvalue()


def test_files_folders_links_and_their_attributes(tmp_path: Path) -> None:
    tar = folder(b"./", mode=0o711, mtime=5)
    tar += folder(b"./d/", mode=0o750, mtime=7)
    tar += file(b"./d/f", b"hello", mode=0o640, mtime=9)
    tar += symlink(b"./d/l", b"/not/there", mtime=11)
    tar += hardlink(b"./d/h", b"./d/f") + header(b"d/p", kind=b"6", mode=0o622)
    applied = unpack(tmp_path / "l", tar + END)
    top = tmp_path / "l"
    assert (stat.S_IMODE(top.stat().st_mode), top.stat().st_mtime) == (0o711, 5)
    assert (stat.S_IMODE((top / "d").stat().st_mode), (top / "d").stat().st_mtime) == (0o750, 7)
    assert (top / "d/f").read_bytes() == b"hello"
    assert (stat.S_IMODE((top / "d/f").stat().st_mode), (top / "d/f").stat().st_mtime) == (0o640, 9)
    assert (os.readlink(top / "d/l"), (top / "d/l").lstat().st_mtime) == ("/not/there", 11)
    assert (top / "d/h").samefile(top / "d/f")
    assert (top / "d/p").is_fifo()
    assert stat.S_IMODE((top / "d/p").stat().st_mode) == 0o622
    assert (applied.entries, applied.size, applied.implicit) == (6, 5, ())


def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        unpack(tmp_path / "l", folder(b"d", mode=0o777) + file(b"f", mode=0o666) + END)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "l/d").stat().st_mode) == 0o777
    assert stat.S_IMODE((tmp_path / "l/f").stat().st_mode) == 0o666


def test_nanoseconds_and_times_before_1970(tmp_path: Path) -> None:
    tar = pax({"mtime": "1600000000.123456789"}) + file(b"a")
    tar += pax({"mtime": "-1.5"}) + file(b"b") + pax({"mtime": "12345.1"}) + folder(b"d")
    tar += file(b"d/x") + END
    unpack(tmp_path / "l", tar)
    assert (tmp_path / "l/a").stat().st_mtime_ns == 1600000000123456789
    assert (tmp_path / "l/b").stat().st_mtime_ns == -1500000000
    assert (tmp_path / "l/d").stat().st_mtime_ns == 12345100000000


def test_long_names_of_every_dialect(tmp_path: Path) -> None:
    name = b"d/" + b"x" * 150
    deep = b"/".join([b"y" * 40] * 5)
    tar = pax({"path": name, "linkpath": b"t" * 120}) + symlink(b"short", b"short")
    tar += gnu_long(name + b"2", kind=b"L") + file(b"short", b"2")
    tar += gnu_long(b"t" * 130, kind=b"K") + symlink(b"l", b"short")
    tar += file(b"name", b"3", prefix=b"some/folder")
    tar += (
        pax({"path": deep}) + file(b"short", b"4") + file(b"old", magic=b"ustar  \0", prefix=b"\1")
    )
    unpack(tmp_path / "l", tar + END)
    top = tmp_path / "l"
    assert os.readlink(top / name.decode()) == "t" * 120
    assert (top / (name.decode() + "2")).read_bytes() == b"2"
    assert os.readlink(top / "l") == "t" * 130
    assert (top / "some/folder/name").read_bytes() == b"3"
    assert (top / deep.decode()).read_bytes() == b"4"
    assert (top / "old").exists()


def test_global_header_applies_to_all_after_it(tmp_path: Path) -> None:
    tar = (
        pax({"mtime": "77"}, kind=b"g")
        + file(b"a")
        + pax({"mtime": "88"})
        + file(b"b")
        + file(b"c")
    )
    unpack(tmp_path / "l", tar + END)
    assert [(tmp_path / "l" / n).stat().st_mtime for n in "abc"] == [77, 88, 77]


@pytest.mark.parametrize("dialect", ["old", "old-extended", "pax-0.0", "pax-0.1", "pax-1.0"])
def test_sparse_files_keep_their_holes(dialect: str, tmp_path: Path) -> None:
    pieces = [(1 << 20, 512), (3 << 20, 1024), (5 << 20, 512), (6 << 20, 512), (7 << 20, 512)]
    size = (8 << 20) + 5
    data = b"".join(bytes([65 + n]) * length for n, (_, length) in enumerate(pieces))
    numbers = [n for piece in pieces for n in piece]
    if dialect.startswith("old"):
        block = bytearray(header(b"f", kind=b"S", size=len(data), magic=b"ustar  \0"))
        octal = [b"%011o\0" % n for n in numbers]
        block[386:482] = b"".join(octal[:8])
        block[482] = 1
        block[483:495] = b"%011o\0" % size
        extension = b"".join(octal[8:]).ljust(512, b"\0")
        tar = sign(block) + extension + padded(data)
    elif dialect == "pax-0.0":
        mapped = [
            (f"GNU.sparse.{key}", str(value))
            for piece in pieces
            for key, value in zip(("offset", "numbytes"), piece, strict=True)
        ]
        tar = pax([("GNU.sparse.size", str(size)), *mapped]) + file(b"f", data)
    elif dialect == "pax-0.1":
        records = {"GNU.sparse.map": ",".join(map(str, numbers)), "GNU.sparse.size": str(size)}
        tar = pax({**records, "GNU.sparse.name": "f"}) + file(b"GNUSparseFile.0/f", data)
    else:
        text = padded(b"".join(b"%d\n" % n for n in [len(pieces), *numbers]))
        records = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "f"}
        records["GNU.sparse.realsize"] = str(size)
        tar = pax(records) + file(b"GNUSparseFile.0/f", text + data)
    unpack(tmp_path / "l", tar + file(b"after", b"ok") + END, chunk=300)
    content = (tmp_path / "l/f").read_bytes()
    assert len(content) == size
    for number, (offset, length) in enumerate(pieces):
        assert content[offset : offset + length] == bytes([65 + number]) * length
    assert content.count(0) == size - len(data)
    assert (tmp_path / "l/f").stat().st_blocks * 512 < size // 4
    assert (tmp_path / "l/after").read_bytes() == b"ok"


def test_later_entries_win_and_change_types(tmp_path: Path) -> None:
    tar = file(b"a", b"1", mode=0o600) + file(b"a", b"22", mode=0o644)
    tar += folder(b"b") + file(b"b/x", b"x") + folder(b"b/sub") + file(b"b", b"now a file")
    tar += file(b"c", b"file") + folder(b"c", mode=0o700) + file(b"c/x", b"y")
    tar += symlink(b"d", b"a") + file(b"d", b"d") + file(b"e", b"1") + hardlink(b"e", b"a")
    tar += folder(b"f", mode=0o700) + file(b"f/keep", b"k") + folder(b"f", mode=0o755, mtime=3)
    unpack(tmp_path / "l", tar + END)
    top = tmp_path / "l"
    assert (top / "a").read_bytes() == b"22"
    assert (top / "b").read_bytes() == b"now a file"
    assert (top / "c/x").read_bytes() == b"y"
    assert (top / "d").read_bytes() == b"d"
    assert (top / "e").samefile(top / "a")
    assert (top / "f/keep").exists()
    assert (stat.S_IMODE((top / "f").stat().st_mode), (top / "f").stat().st_mtime) == (0o755, 3)


def test_missing_parents_are_made_and_reported(tmp_path: Path) -> None:
    applied = unpack(tmp_path / "l", file(b"a/b/c", b"x") + folder(b"a/b", mode=0o700) + END)
    assert applied.implicit == ("a",)
    assert stat.S_IMODE((tmp_path / "l/a").stat().st_mode) == 0o755


def test_names_that_are_no_text(tmp_path: Path) -> None:
    unpack(tmp_path / "l", file(b"\xff\xfe", b"x") + symlink(b"l", b"\xff\xfe") + END)
    assert os.listdir(os.fsencode(tmp_path / "l")) != []
    assert (tmp_path / os.fsdecode(b"l/\xff\xfe")).read_bytes() == b"x"


def test_old_tars_mark_folders_by_a_slash(tmp_path: Path) -> None:
    unpack(tmp_path / "l", header(b"d/", kind=b"\0", mode=0o755, magic=bytes(8)) + END)
    assert (tmp_path / "l/d").is_dir()


def test_link_with_a_size_carries_no_data(tmp_path: Path) -> None:
    tar = file(b"a", b"x") + header(b"b", kind=b"1", link=b"a", size=100) + file(b"c", b"y")
    unpack(tmp_path / "l", tar + END)
    assert sorted(os.listdir(tmp_path / "l")) == ["a", "b", "c"]


@pytest.mark.parametrize("end", [END, END[:512], b"", END + b"\0" * 9000])
def test_every_way_to_end(end: bytes, tmp_path: Path) -> None:
    assert unpack(tmp_path / "l", file(b"a", b"x") + end).entries == 1


@pytest.mark.parametrize("dialect", ["gnu", "pax", "ustar", "oldgnu", "posix"])
def test_what_gnu_tar_writes_is_what_we_read(dialect: str, tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source", long=dialect != "ustar")
    tar = tmp_path / "a.tar"
    options = ["--sparse"] if dialect in ("gnu", "pax", "posix", "oldgnu") else []
    subprocess.run(
        ["tar", "--format", dialect, *options, "-C", source, "-cf", tar, "."], check=True
    )
    unpack(tmp_path / "ours", tar.read_bytes())
    assert_same(source, tmp_path / "ours", exact=dialect in ("pax", "posix"))


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_python_writes_is_what_we_read(form: int, tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source")
    with tarfile.open(tmp_path / "a.tar", "w", format=form) as tar:
        tar.add(source, ".")
    unpack(tmp_path / "ours", (tmp_path / "a.tar").read_bytes())
    assert_same(source, tmp_path / "ours", exact=False)


def test_what_we_pack_everybody_reads(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source")
    out, how = io.BytesIO(), How(owner=None, set_id=True, devices=True, left_out=pytest.fail)
    above = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    pack(above, "source", ".", lambda data: out.write(data) and None, how)
    os.close(above)
    tar = out.getvalue()
    (tmp_path / "a.tar").write_bytes(tar)
    unpack(tmp_path / "ours", tar)
    assert_same(source, tmp_path / "ours", exact=True)
    (tmp_path / "gnu").mkdir()
    subprocess.run(["tar", "-xpf", tmp_path / "a.tar", "-C", tmp_path / "gnu"], check=True)
    assert_same(source, tmp_path / "gnu", exact=True)
    with tarfile.open(tmp_path / "a.tar") as theirs:
        assert len(theirs.getnames()) == len(below(source)) + 1


names = st.binary(min_size=1, max_size=260).filter(
    lambda name: b"\0" not in name and not name.endswith(b"/") and not name.startswith(b"/")
)


@given(
    path=names,
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, 2**32),
    gid=st.integers(0, 2**21),
    mtime_ns=st.integers(-(2**62), 2**62),
    data=st.binary(max_size=2000),
    xattrs=st.dictionaries(st.sampled_from(["user.a", "user.b=c"]), st.binary(max_size=50)),
)
def test_reader_gets_back_what_the_writer_was_given(path, mode, uid, gid, mtime_ns, data, xattrs):
    kept = tuple(sorted((key.replace("=", "-"), value) for key, value in xattrs.items()))
    entry = Entry(path, Kind.FILE, mode, uid, gid, len(data), mtime_ns, xattrs=kept)
    reader = TarReader([write([(entry, data)])])
    for found in reader:
        assert found == entry
        assert b"".join(reader.read()) == data


def make_tree(top: Path, *, long: bool = True) -> Path:
    top.mkdir()
    (top / "file").write_bytes(b"content" * 1000)
    (top / "file").chmod(0o640)
    os.link(top / "file", top / "hard")
    (top / "empty").touch()
    (top / "folder/sub").mkdir(parents=True)
    (top / "folder/sub/ünïcode näme").write_text("x")
    (top / "link").symlink_to("folder/sub")
    (top / "dangling").symlink_to("/nowhere")
    os.mkfifo(top / "pipe")
    if long:
        (top / ("n" * 200)).write_text("long")
        (top / "long link").symlink_to("t" * 300)
        nested = top
        for _ in range(8):
            nested = nested / ("d" * 40)
        nested.mkdir(parents=True)
        (nested / "leaf").write_text("deep")
        with (top / "holes").open("wb") as file:
            file.seek(1 << 20)
            file.write(b"end")
            file.truncate(2 << 20)
    for number, path in enumerate(sorted(below(top), reverse=True)):
        os.utime(path, ns=(0, 1_600_000_000_123_456_000 + number * 10**9), follow_symlinks=False)
    os.utime(top, ns=(0, 1_500_000_000_000_000_000))
    return top


def below(top: Path) -> list[Path]:
    """All there is below *top*; Path.rglob of some Pythons stops at a link it cannot follow."""
    return [
        Path(folder, name) for folder, folders, files in os.walk(top) for name in (*folders, *files)
    ]


def assert_same(wanted: Path, found: Path, *, exact: bool) -> None:
    """Compare two trees; times to the second unless *exact*."""

    def describe(top: Path) -> dict[str, tuple[object, ...]]:
        described: dict[str, tuple[object, ...]] = {}
        for path in [top, *below(top)]:
            status = path.lstat()
            content: object = None
            if path.is_symlink():
                content = os.readlink(path)
            elif path.is_file():
                content = path.read_bytes()
            time = status.st_mtime_ns if exact else status.st_mtime_ns // 10**9
            key = str(path.relative_to(top))
            described[key] = (status.st_mode, status.st_uid, status.st_gid, time, content)
        return described

    assert describe(found) == describe(wanted)
    assert (found / "file").samefile(found / "hard")
