"""Small state files where the disk is full: named, written over, or left out."""

import errno
import json
import os

import pytest

from runtime.kernel import replace
from runtime.network.files import read_json, stamp_of, write_json, write_note


@pytest.fixture
def full_disk(monkeypatch):
    """Nothing can be written any more, but over what is there."""

    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fill():
        monkeypatch.setattr(replace.os, "write", refuse)

    return fill


def test_the_error_names_the_file(tmp_path, full_disk):
    full_disk()
    with pytest.raises(OSError, match="No space") as raised:
        replace.replace_file(tmp_path / "file", b"text")
    assert raised.value.filename == str(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_no_other_writer_nor_a_link_comes_in_between(tmp_path, monkeypatch):
    (tmp_path / "victim").write_text("whole")
    (tmp_path / f"file.{os.getpid()}.tmp").symlink_to("victim")
    rename = os.rename

    def meet_another_thread(old, new):
        monkeypatch.setattr(replace.os, "rename", rename)
        replace.replace_file(new, b"theirs")
        rename(old, new)

    monkeypatch.setattr(replace.os, "rename", meet_another_thread)
    replace.replace_file(tmp_path / "file", b"ours")
    assert (tmp_path / "file").read_bytes() == b"ours"
    assert (tmp_path / "victim").read_text() == "whole"


def test_what_does_not_grow_is_written_over(tmp_path, full_disk):
    path = tmp_path / "file"
    write_json(path, {"names": ["one", "two"]})
    full_disk()
    stamp = write_json(path, {"names": ["two"]})
    assert read_json(path) == {"names": ["two"]}
    assert stamp == stamp_of(path)
    assert list(tmp_path.iterdir()) == [path]


def test_what_grows_stays_as_it_was(tmp_path, full_disk):
    path = tmp_path / "file"
    write_json(path, {"names": ["one"]})
    full_disk()
    with pytest.raises(OSError, match="No space"):
        write_json(path, {"names": ["one", "two"]})
    assert json.loads(path.read_bytes()) == {"names": ["one"]}


def test_a_note_is_left_out(tmp_path, full_disk):
    full_disk()
    write_note(tmp_path / "note", {"some": "work"})
    write_note(tmp_path / "none" / "note", {})
    assert list(tmp_path.iterdir()) == []
