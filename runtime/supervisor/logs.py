"""Reading a container's log; needs no supervisor, follows over rotations and restarts.

The size of a log is read before its index: every byte below that size then has its record, since
the writer records first (see logfile).
"""

import os
import select
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress

from runtime.kernel.inotify import (
    IN_CLOEXEC,
    IN_CREATE,
    IN_MODIFY,
    IN_NONBLOCK,
    inotify_add_watch,
    inotify_init1,
)
from runtime.record import dataclass
from runtime.supervisor.logfile import (
    OFFSET_MASK,
    RECORD,
    STDOUT,
    STREAM_SHIFT,
    STREAMS,
    index_path,
    log_path,
    numbers,
)

MAX_LINE = 1 << 20
"""A line longer than this comes in pieces."""
_BLOCK = 256 << 10
_ASK_S = 0.25
"""How often a follower asks whether to go on while nothing is written."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of one stream, without its newline."""

    time: float
    """When its first byte was written, in seconds since the epoch."""
    stream: str
    """``stdout | stderr``"""
    data: bytes
    complete: bool = True
    """False: no newline followed, yet or because the line is too long."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes as they were written: of one stream, at one time."""

    time: float
    stream: str
    data: bytes


@dataclass(frozen=True, slots=True)
class _Segment:
    start: int
    end: int
    time_ns: int
    stream: int


class _File:
    """One numbered log, open for reading, even after rotation has deleted it."""

    def __init__(self, folder: str, number: int) -> None:
        self.number = number
        self.position = 0
        self._log = os.open(log_path(folder, number), os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._index = os.open(index_path(folder, number), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            self._index = -1
        self._record = 0

    def close(self) -> None:
        os.close(self._log)
        if self._index >= 0:
            os.close(self._index)

    def segments(self) -> Iterator[_Segment]:
        """Yield what was written from *position* on, up to the size of now; moves nothing."""
        size = os.fstat(self._log).st_size
        if self.position >= size:
            return
        start, when, stream = self.position, os.fstat(self._log).st_mtime_ns, STDOUT
        number = self._record
        for word, record_time in self._records():
            offset = word & OFFSET_MASK
            if offset >= size:
                break
            if offset > start:
                yield _Segment(start, offset, when, stream)
                start = offset
            # The next look begins with the record of the last byte, which may grow.
            self._record, number = number, number + 1
            when, stream = record_time, word >> STREAM_SHIFT
        yield _Segment(start, size, when, stream)

    def read(self, segment: _Segment) -> Iterator[bytes]:
        """Yield the bytes of *segment* in blocks."""
        start = segment.start
        while start < segment.end:
            data = os.pread(self._log, min(_BLOCK, segment.end - start), start)
            if not data:
                return
            yield data
            start += len(data)

    def seek(self, position: int) -> None:
        self.position, self._record = position, 0

    def seek_end(self) -> None:
        # In this order: the last record of now is then that of a byte before, or of the next.
        records = os.fstat(self._index).st_size // RECORD.size if self._index >= 0 else 0
        self.position, self._record = os.fstat(self._log).st_size, max(0, records - 1)

    def count_lines(self, segment: _Segment) -> int:
        return sum(block.count(b"\n") for block in self.read(segment))

    def _records(self) -> Iterator[tuple[int, int]]:
        if self._index < 0:
            return
        offset = self._record * RECORD.size
        while data := os.pread(self._index, RECORD.size * 4096, offset):
            whole = data[: len(data) // RECORD.size * RECORD.size]
            yield from RECORD.iter_unpack(whole)
            offset += len(whole)
            if len(whole) < len(data):
                return


class _Lines:
    """Lines put together per stream, over chunks and files."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[float, bytearray]] = {}

    def add(self, chunk: Chunk) -> Iterator[LogLine]:
        *whole, rest = chunk.data.split(b"\n")
        for data in whole:
            when, head = self._open.pop(chunk.stream, (chunk.time, bytearray()))
            yield LogLine(when, chunk.stream, bytes(head) + data)
        if rest:
            when, head = self._open.setdefault(chunk.stream, (chunk.time, bytearray()))
            head += rest
            if len(head) > MAX_LINE:
                del self._open[chunk.stream]
                yield LogLine(when, chunk.stream, bytes(head), complete=False)

    @property
    def pending(self) -> int:
        """How many lines have begun and not ended."""
        return len(self._open)

    def rest(self) -> Iterator[LogLine]:
        for stream, (when, data) in self._open.items():
            yield LogLine(when, stream, bytes(data), complete=False)
        self._open.clear()


def read(
    folder: str | os.PathLike[str],
    *,
    since: float | None = None,
    tail: int | None = None,
    follow: bool = False,
    going: Callable[[], bool] = lambda: True,
) -> Iterator[LogLine]:
    """Yield the lines of the log in *folder*, in the order in which they ended.

    *since* leaves out lines begun before that time (seconds since the epoch), *tail* all but the
    last so many of the rest. With *follow*, wait for more as long as ``going()`` returns True,
    which is asked at least four times a second; what was written before it returned False is
    still yielded. A last line without newline comes at the very end. A folder that does not
    exist is an empty log.
    """
    path = os.fspath(folder)
    lines = _Lines()
    reader = _Reader(path)
    try:
        if tail is not None:
            reader.seek_lines(tail)
        found = _since((line for c in reader.chunks() for line in lines.add(c)), since)
        if tail is None:
            yield from found
        elif follow:
            last = deque(found, maxlen=tail)
            # A line that is not over yet is one of them, and will come when it is.
            yield from list(last)[max(0, len(last) - max(0, tail - lines.pending)) :]
        else:
            yield from deque((*found, *_since(lines.rest(), since)), maxlen=tail)
        if follow:
            for chunk in reader.follow(going):
                yield from _since(lines.add(chunk), since)
        yield from _since(lines.rest(), since)
    finally:
        reader.close()


def follow_chunks(folder: str | os.PathLike[str], *, going: Callable[[], bool]) -> Iterator[Chunk]:
    """Return what will come to the log from this call on, as it comes; follows as read() does."""
    reader = _Reader(os.fspath(folder))
    # Now, not when somebody asks for the first: what is written meanwhile is part of it.
    reader.seek_end()

    def follow() -> Iterator[Chunk]:
        try:
            yield from reader.follow(going)
        finally:
            reader.close()

    return follow()


def _since(lines: Iterator[LogLine], since: float | None) -> Iterator[LogLine]:
    return lines if since is None else (line for line in lines if line.time >= since)


class _Reader:
    """A position in a log."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._file: _File | None = None

    def close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None

    def chunks(self) -> Iterator[Chunk]:
        """Yield everything from here to the end of now."""
        while self._file or self._next():
            file = self._file
            assert file is not None
            yield from self._current(file)
            if not numbers(self._folder)[-1:] > [file.number]:
                return
            # There is a later file, so this one grows no more; it may have, up to just now.
            yield from self._current(file)
            self._next()

    def follow(self, going: Callable[[], bool]) -> Iterator[Chunk]:
        """Yield everything from here, waiting for more until ``going()`` is False."""
        fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK)
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        watching = False
        try:
            while True:
                # There may be no folder yet.
                if not watching and os.path.isdir(self._folder):
                    inotify_add_watch(fd, self._folder, IN_MODIFY | IN_CREATE)
                    watching = True
                last = not going()
                yield from self.chunks()
                if last:
                    return
                if poll.poll(_ASK_S * 1000):
                    os.read(fd, 65536)
        finally:
            os.close(fd)

    def seek_end(self) -> None:
        """Go to the end of now, without reading what is before it."""
        while found := numbers(self._folder):
            with suppress(FileNotFoundError):  # rotated away just now
                self._file = _File(self._folder, found[-1])
                self._file.seek_end()
                return

    def seek_lines(self, count: int) -> None:
        """Go to a place from which at least the last *count* lines can be read in full.

        Lines of two streams mix, so a line may have begun long before it ended: go back until
        each stream that ends one of those lines has ended one before.
        """
        ended, wanted = 0, set[int]()
        for number in reversed(numbers(self._folder)):
            try:
                file = _File(self._folder, number)
            except FileNotFoundError:  # rotated away just now
                break
            self.close()
            self._file = file
            segments = list(file.segments())
            file.seek(0)
            for segment in reversed(segments):
                lines = file.count_lines(segment)
                if ended > count:
                    if lines:
                        wanted.discard(segment.stream)
                    if not wanted:
                        file.seek(segment.start)
                        return
                else:
                    ended += lines
                    wanted.add(segment.stream)

    def _current(self, file: _File) -> Iterator[Chunk]:
        for segment in file.segments():
            for data in file.read(segment):
                file.position += len(data)
                yield Chunk(segment.time_ns / 1e9, STREAMS.get(segment.stream, "stdout"), data)

    def _next(self) -> bool:
        """Open the first file after the current one; return whether there is one."""
        after = self._file.number if self._file else 0
        for number in numbers(self._folder):
            if number > after:
                try:
                    file = _File(self._folder, number)
                except FileNotFoundError:  # rotated away just now
                    continue
                self.close()
                self._file = file
                return True
        return False
