"""Copies between trees of which one is a stranger's, who changes it meanwhile."""

import errno
import os
import stat
from contextlib import nullcontext

import pytest

from runtime.errors import StateError
from runtime.rootfs import transfer

LONG = "長" * 84  # 252 bytes of 255


class Trees:
    """Two folders held open, and what was left out of a copy."""

    def __init__(self, folder):
        self.source, self.target = folder / "source", folder / "target"
        self.left_out = []
        self.how = transfer.How(
            owner=(os.geteuid(), os.getegid()),
            set_id=False,
            devices=False,
            left_out=self.left_out.append,
        )
        self._open = []

    def open(self, path):
        self._open.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY))
        return self._open[-1]

    def copy(self, name, new_name=None, *, source=None, target=None):
        transfer.copy(
            self.open(source or self.source),
            name,
            self.open(target or self.target),
            new_name or name,
            self.how,
        )

    def close(self):
        for fd in self._open:
            os.close(fd)


@pytest.fixture
def trees(tmp_path):
    made = Trees(tmp_path)
    made.source.mkdir()
    made.target.mkdir()
    yield made
    made.close()


def everything_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_file_exchanged_when_it_is_opened_is_never_opened_as_something_else(
    trees, monkeypatch, moment
):
    file = trees.source / "file"
    file.write_text("data")
    opened, real = [], os.open

    def exchange():
        if stat.S_ISREG(file.lstat().st_mode):
            file.rename(trees.source / "was")
            os.mkfifo(file)

    def racing(path, flags, *rest, **options):
        if path == "file" and moment == "before":
            exchange()
        fd = real(path, flags, *rest, **options)
        if path == "file" and moment == "after":
            exchange()
        if not flags & os.O_PATH:
            opened.append(stat.S_IFMT(os.fstat(fd).st_mode))
        return fd

    monkeypatch.setattr(os, "open", racing)
    trees.copy("file")
    monkeypatch.undo()
    assert stat.S_IFIFO not in opened
    copied = trees.target / "file"
    assert stat.S_ISFIFO(copied.lstat().st_mode) == (moment == "before")
    assert moment == "before" or copied.read_text() == "data"


def test_a_link_in_the_place_of_what_was_just_made_leads_nowhere(trees, monkeypatch, tmp_path):
    victim = tmp_path / "victim"
    victim.touch(0o600)
    os.mkfifo(trees.source / "fifo", 0o666)
    real = os.mknod

    def racing(name, *rest, **options):
        real(name, *rest, **options)
        (trees.target / name).unlink()
        (trees.target / name).symlink_to(victim)

    monkeypatch.setattr(os, "mknod", racing)
    with pytest.raises(StateError, match="cannot copy fifo: somebody else"):
        trees.copy("fifo")
    assert stat.S_IMODE(victim.stat().st_mode) == 0o600
    assert os.listdir(trees.target) == []


@pytest.mark.parametrize("full", [False, True])
def test_a_file_system_without_nameless_files_takes_files_too(trees, monkeypatch, full):
    (trees.source / "file").write_text("data")
    (trees.target / "file").write_text("before")
    real = os.open

    def refusing(path, flags, *rest, **options):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return real(path, flags, *rest, **options)

    def no_space(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "open", refusing)
    if full:
        monkeypatch.setattr(os, "fchmod", no_space)
    with pytest.raises(OSError, match="No space") if full else nullcontext():
        trees.copy("file")
    assert (trees.target / "file").read_text() == ("before" if full else "data")
    assert os.listdir(trees.target) == ["file"]


def test_modes_of_what_is_no_file_are_kept(trees):
    os.mkfifo(trees.source / "fifo")
    (trees.source / "fifo").chmod(0o642)
    (trees.source / "link").symlink_to("nowhere")
    trees.copy("fifo")
    trees.copy("link")
    assert stat.S_IMODE((trees.target / "fifo").stat().st_mode) == 0o642
    assert os.readlink(trees.target / "link") == "nowhere"


def test_long_names_count_in_bytes(trees):
    (trees.source / LONG).write_text("long")
    trees.copy(LONG)
    assert (trees.target / LONG).read_text() == "long"
    with pytest.raises(OSError, match="File name too long") as raised:
        trees.copy(LONG, f"{LONG}{LONG}")
    assert raised.value.filename == f"{LONG}{LONG}"
    assert os.listdir(trees.target) == [LONG]


def test_errors_name_what_the_user_knows(trees, monkeypatch):
    (trees.source / "folder").mkdir()
    (trees.source / "folder/file").write_text("data")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "sendfile", full)
    monkeypatch.setattr(os, "write", full)
    # What is in the way of clearing up hides nothing.
    monkeypatch.setattr(os, "unlink", lambda *_, **__: os.rmdir("/"))
    with pytest.raises(OSError, match="No space left") as raised:
        trees.copy("folder", "new")
    assert raised.value.filename == "new/file"
    with pytest.raises(FileNotFoundError) as raised:
        trees.copy("gone", "new")
    assert raised.value.filename == "gone"
    monkeypatch.undo()
    (trees.target / "taken").mkdir()
    with pytest.raises(IsADirectoryError) as raised:
        trees.copy("file", "taken", source=trees.source / "folder")
    assert raised.value.filename == "taken"


def test_errors_of_reading_name_the_source(trees, monkeypatch):
    (trees.source / "folder").mkdir()
    (trees.source / "folder/file").write_text("data")
    (trees.source / "link").symlink_to("nowhere")

    def failing(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    def named(name):
        with pytest.raises(OSError, match="Input/output") as raised:
            trees.copy(name, "new")
        return raised.value.filename

    monkeypatch.setattr(os, "readlink", failing)
    assert named("link") == "link"
    monkeypatch.setattr(os, "sendfile", failing)
    monkeypatch.setattr(os, "read", failing)
    assert named("folder") == "folder/file"
    real = os.open
    monkeypatch.setattr(
        os,
        "open",
        lambda path, *a, **k: (failing if "/proc/" in str(path) else real)(path, *a, **k),
    )
    assert named("folder") == "folder/file"
    monkeypatch.undo()
    assert everything_below(trees.target) == ["new"]


def test_what_the_kernel_makes_when_it_is_read_is_copied_too(trees):
    """sendfile(2) knows not all of it."""
    trees.copy("environ", source="/proc/self")
    with open("/proc/self/environ", "rb") as file:
        assert (trees.target / "environ").read_bytes() == file.read()


@pytest.mark.parametrize("target", ["a", "a/b", "a/b/c"])
def test_a_folder_is_not_copied_into_itself(trees, target):
    (trees.source / "a/b/c").mkdir(parents=True)
    (trees.source / "a/file").touch()
    before = everything_below(trees.source)
    with pytest.raises(StateError, match="cannot copy a into itself"):
        trees.copy("a", target=trees.source / target)
    assert everything_below(trees.source) == before


def test_nor_when_what_it_would_go_to_is_found_below_it_only(trees, monkeypatch):
    """As by a bind mount, from where the way up leads elsewhere."""
    (trees.source / "a/b").mkdir(parents=True)
    (trees.source / "a/aa").touch()
    before = everything_below(trees.source)
    real = os.open

    def rooted(path, *rest, **options):
        return real("." if path == ".." else path, *rest, **options)

    monkeypatch.setattr(os, "open", rooted)
    with pytest.raises(StateError, match="cannot copy a into itself"):
        trees.copy("a", target=trees.source / "a/b")
    with pytest.raises(StateError, match="into itself"):
        trees.copy("a", target=trees.source)
    source = trees.open(trees.source)
    with pytest.raises(StateError, match="into itself"):
        transfer.copy_members(source, trees.open(trees.source / "a"), trees.how)
    with pytest.raises(StateError, match="into itself"):
        transfer.copy_members(source, source, trees.how)
    assert everything_below(trees.source) == before


def test_what_is_too_deep_is_told_before_anything_is_copied(trees):
    here = trees.open(trees.source)
    for _ in range(600):
        os.mkdir("d", dir_fd=here)
        fd = os.open("d", os.O_RDONLY, dir_fd=here)
        if here not in trees._open:
            os.close(here)
        here = fd
    os.close(here)
    with pytest.raises(StateError, match="deep"):
        trees.copy("d")
    assert os.listdir(trees.target) == []
