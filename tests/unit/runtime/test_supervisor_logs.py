"""The log on disk: written from pipes, mended after kills, read by streams and lines."""

import errno
import os
import random
import struct

import pytest

from runtime.supervisor import logs
from runtime.supervisor.logfile import (
    STDERR,
    STDOUT,
    LogWriter,
    Peek,
    index_path,
    log_path,
    numbers,
)


class Source:
    """A log folder, its writer, and a pipe per stream."""

    def __init__(self, folder, **options):
        self.folder = str(folder)
        self.options = {"max_size": 1 << 20, "max_files": 3, **options}
        self.peek = Peek()
        self.pipes = {stream: os.pipe2(os.O_NONBLOCK) for stream in (STDOUT, STDERR)}
        self.writer = None
        self.open()

    def open(self):
        """Open as a new process would, after the last one was killed."""
        if self.writer is not None:
            self.writer.close()
        self.writer = LogWriter(self.folder, peek=self.peek, **self.options)

    def put(self, data, stream=STDOUT, *, move=True):
        assert os.write(self.pipes[stream][1], data) == len(data)
        while move and self.writer.move(self.pipes[stream][0], stream):
            pass

    def read(self, **options):
        return [(line.stream, line.data) for line in logs.read(self.folder, **options)]

    def close(self):
        self.writer.close()
        self.peek.close()
        for ends in self.pipes.values():
            for fd in ends:
                os.close(fd)


@pytest.fixture
def source(tmp_path):
    made = []

    def make(**options):
        made.append(Source(tmp_path / "log", **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_streams_are_told_apart_and_lines_put_together(source):
    log = source()
    log.put(b"one\ntw")
    log.put(b"err", STDERR)
    log.put(b"o\nthree")
    log.put(b"or\n", STDERR)
    assert log.read() == [
        ("stdout", b"one"),
        ("stdout", b"two"),
        ("stderr", b"error"),
        ("stdout", b"three"),
    ]
    assert [line.complete for line in logs.read(log.folder)] == [True, True, True, False]


def test_times_are_those_of_writing(source):
    log = source()
    log.put(b"a\n")
    (line,) = logs.read(log.folder)
    assert abs(line.time - os.stat(log_path(log.folder, 1)).st_mtime) < 1
    assert list(logs.read(log.folder, since=line.time + 1)) == []
    assert list(logs.read(log.folder, since=line.time)) == [line]


def test_a_writer_killed_at_any_step_loses_and_doubles_nothing(source, monkeypatch):
    """After each single system call the writer may be gone; the next one goes on."""
    log = source(max_size=200, max_files=1000)
    moments = random.Random(7)
    expected = []

    class Killed(Exception):
        pass

    def killing(call):
        def wrapped(*args, **kwargs):
            if moments.random() < 0.1:
                raise Killed
            result = call(*args, **kwargs)
            if moments.random() < 0.1:
                raise Killed
            return result

        return wrapped

    for name in ("pwrite", "splice", "open"):
        monkeypatch.setattr(os, name, killing(getattr(os, name)))
    kills = 0
    for n in range(400):
        stream = moments.choice((STDOUT, STDERR))
        data = b"line %d of %d\n" % (n, stream)
        expected.append((stream, data[:-1]))
        os.write(log.pipes[stream][1], data)
        while True:
            try:
                while log.writer.move(log.pipes[stream][0], stream):
                    pass
                break
            except Killed:
                kills += 1
                log.writer = None
                while log.writer is None:
                    try:
                        log.open()
                    except Killed:
                        kills += 1
    monkeypatch.undo()
    assert kills > 100
    for stream, name in ((STDOUT, "stdout"), (STDERR, "stderr")):
        assert [d for s, d in log.read() if s == name] == [d for s, d in expected if s == stream]


def test_a_torn_index_is_cut_and_a_lost_one_rebuilt(source):
    log = source()
    log.put(b"out\n")
    log.put(b"err\n", STDERR)
    with open(index_path(log.folder, 1), "ab") as index:
        index.write(b"\x01\x02\x03")
    log.open()
    assert os.stat(index_path(log.folder, 1)).st_size == 32
    log.put(b"more\n")
    assert log.read() == [("stdout", b"out"), ("stderr", b"err"), ("stdout", b"more")]
    os.truncate(index_path(log.folder, 1), 0)
    assert [data for _, data in log.read()] == [b"out", b"err", b"more"]
    log.open()
    log.put(b"last\n", STDERR)
    assert log.read()[-2:] == [("stdout", b"more"), ("stderr", b"last")]


def test_records_of_bytes_a_power_loss_took_are_dropped(source):
    log = source()
    log.put(b"one\n")
    log.put(b"two\n", STDERR)
    os.truncate(log_path(log.folder, 1), 2)
    log.open()
    log.put(b"ne again\n")
    assert log.read() == [("stdout", b"one again")] or log.read()[0][1] == b"onne again"
    with open(index_path(log.folder, 1), "rb") as index:
        offsets = [word & (1 << 56) - 1 for word, _ in struct.iter_unpack("<QQ", index.read())]
    assert offsets == sorted(offsets)
    assert offsets[-1] <= os.stat(log_path(log.folder, 1)).st_size


def test_rotation_cuts_after_a_newline_and_keeps_so_many_files(source):
    log = source(max_size=1000, max_files=3)
    for n in range(500):
        log.put(b"line %04d\n" % n)
    kept = numbers(log.folder)
    assert len(kept) == 3
    assert len(os.listdir(log.folder)) == 6
    assert all(os.stat(log_path(log.folder, n)).st_size <= 1000 for n in kept)
    found = log.read()
    assert found == [("stdout", b"line %04d" % n) for n in range(500 - len(found), 500)]


def test_what_has_moved_is_told_also_where_the_next_file_cannot_be_made(source, monkeypatch):
    """Else a follower would not get what comes next."""
    log = source(max_size=1000)

    def full(_number):
        raise OSError(errno.ENOSPC, "full")

    log.put(b"x" * 899 + b"\n", move=False)
    log.put(b"y" * 899 + b"\n", move=False)
    with monkeypatch.context() as patch:
        patch.setattr(log.writer, "_open", full)
        assert log.writer.move(log.pipes[STDOUT][0], STDOUT) == 900
        with pytest.raises(OSError, match="full"):
            log.writer.move(log.pipes[STDOUT][0], STDOUT)
    assert log.writer.move(log.pipes[STDOUT][0], STDOUT) == 900
    assert [len(data) for _, data in log.read()] == [899, 899]


def test_big_writes_are_cut_at_newlines_too(source):
    log = source(max_size=1000, max_files=100)
    log.put(b"".join(b"line %04d\n" % n for n in range(2000)))
    for number in numbers(log.folder)[:-1]:
        with open(log_path(log.folder, number), "rb") as file:
            assert file.read().endswith(b"\n")
    assert log.read() == [("stdout", b"line %04d" % n) for n in range(2000)]


def test_a_line_longer_than_any_file_is_cut_somewhere(source):
    log = source(max_size=1000, max_files=100)
    for _ in range(10):
        log.put(b"x" * 900)
    log.put(b"\nafter\n")
    assert len(numbers(log.folder)) > 2
    assert log.read() == [("stdout", b"x" * 9000), ("stdout", b"after")]


def test_a_full_disk_leaves_the_bytes_in_the_pipe(source, monkeypatch):
    log = source()
    log.put(b"one\n")

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "splice", full)
    with pytest.raises(OSError, match="No space"):
        log.put(b"two\n")
    monkeypatch.undo()
    log.put(b"three\n")
    assert [data for _, data in log.read()] == [b"one", b"two", b"three"]


@pytest.mark.parametrize("tail", [0, 1, 2, 3, 7, 50, 1000])
def test_tail_is_the_end_of_the_whole(source, tail):
    log = source(max_size=300, max_files=100)
    moments = random.Random(tail)
    for n in range(200):
        stream = moments.choice((STDOUT, STDOUT, STDOUT, STDERR))
        log.put(b"%d%s" % (n, moments.choice((b"\n", b" and ", b"\nx\n"))), stream)
    whole = log.read()
    assert log.read(tail=tail) == (whole[-tail:] if tail else [])


@pytest.mark.parametrize("tail", [0, 1, 7, 8, 10, 12, 1000])
def test_tail_and_follow_begin_with_the_same(source, tail):
    log = source()
    log.put(b"".join(b"%d\n" % n for n in range(8)))
    whole = log.read()
    assert log.read(tail=tail, follow=True, going=lambda: False) == (whole[-tail:] if tail else [])


def test_following_begins_with_what_is_there_and_ends_when_told(source):
    log = source(max_size=100, max_files=1000)
    log.put(b"one\n")
    todo = [b"two\n", b"three\nfo", b"ur\n", b"x" * 300 + b"\n", b"five"]

    def going():
        if todo:
            log.put(todo.pop(0))
        return bool(todo)

    found = log.read(follow=True, going=going)
    expected = [b"one", b"two", b"three", b"four", b"x" * 300, b"five"]
    assert [data for _, data in found] == expected
    assert log.read(follow=True, tail=1, going=lambda: False) == [("stdout", b"five")]


@pytest.mark.parametrize("old", [[], [b"old"], [b"old", b"x" * 300 + b"\n", b"older"]])
def test_chunks_begin_at_the_end_of_when_they_were_asked_for(source, old):
    log = source(max_size=100, max_files=1000)
    for data in old:
        log.put(data)
    log.put(b"err", STDERR)
    todo = [b"$ ", b"ls\r\n" * 30, b"end"]

    def going():
        if todo:
            log.put(todo.pop(0))
        return bool(todo)

    chunks = logs.follow_chunks(log.folder, going=going)
    log.put(b"at once", STDERR)
    found = [(chunk.stream, chunk.data) for chunk in chunks]
    assert found[0] == ("stderr", b"at once")
    assert b"".join(data for _, data in found[1:]) == b"$ " + b"ls\r\n" * 30 + b"end"
    assert {stream for stream, _ in found[1:]} == {"stdout"}


def test_chunks_of_a_log_that_is_yet_to_begin_are_all_of_it(source, tmp_path):
    chunks = logs.follow_chunks(tmp_path / "log", going=lambda: False)
    source().put(b"first")
    assert [chunk.data for chunk in chunks] == [b"first"]


def test_no_folder_is_an_empty_log(tmp_path):
    assert list(logs.read(tmp_path / "none")) == []
    assert list(logs.read(tmp_path / "none", tail=3, follow=True, going=lambda: False)) == []


def test_an_endless_line_comes_in_pieces(source, monkeypatch):
    monkeypatch.setattr(logs, "MAX_LINE", 1000)
    log = source()
    log.put(b"y" * 2500 + b"\n")
    found = list(logs.read(log.folder))
    assert b"".join(line.data for line in found) == b"y" * 2500
    assert found[-1].complete
