"""The log of a container on disk, and its one writer.

A log is a folder of pairs ``NNNNNN.log`` and ``NNNNNN.index``; the highest number is being
written, rotation begins the next one and deletes the oldest, and no file is ever renamed. The
log holds the container's bytes and nothing else. The index holds records of 16 bytes, an offset
whose top byte is the stream, and nanoseconds since the epoch: from that offset on, up to the
next record's or the end of the log, the bytes came from that stream at that time.

A record is written *before* the bytes it describes, and the bytes go from the FIFO into the file
within one splice(2), which no signal can cut between taking and writing. So a writer killed at
any moment leaves every byte either in the FIFO or in the log, with its record; nothing has to be
made good later but a record without bytes, and that one the next record overwrites.
"""

import errno
import os
import struct
import time
from contextlib import suppress

from runtime.errors import KernelError
from runtime.kernel.pipe import SPLICE_F_MOVE, SPLICE_F_NONBLOCK, tee

RECORD = struct.Struct("<QQ")
STREAM_SHIFT = 56
OFFSET_MASK = (1 << STREAM_SHIFT) - 1

STDOUT = 1
STDERR = 2
STREAMS = {STDOUT: "stdout", STDERR: "stderr"}

CHUNK = 256 << 10
"""Most bytes moved at once: keeps one loud container from holding up the others."""
_PEEK = 64 << 10
_SAME_NS = 1_000_000
"""Bytes of one stream less than this apart share a record."""
_FLAGS = SPLICE_F_MOVE | SPLICE_F_NONBLOCK


def log_path(folder: str, number: int) -> str:
    """Return the path of the log of that number."""
    return os.path.join(folder, f"{number:06}.log")


def index_path(folder: str, number: int) -> str:
    """Return the path of the index of that number."""
    return os.path.join(folder, f"{number:06}.index")


def numbers(folder: str) -> list[int]:
    """Return the numbers of the logs there are, oldest first."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(int(n[:-4]) for n in names if n.endswith(".log") and n[:-4].isdecimal())


class Peek:
    """A pipe of our own into which another pipe's first bytes are duplicated to look at them."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def look(self, fd: int) -> bytes:
        """Return up to 64 KiB that a read of pipe *fd* would return, leaving them there."""
        try:
            count = tee(fd, self._write, _PEEK, SPLICE_F_NONBLOCK)
        except KernelError as error:
            if error.errno != errno.EAGAIN:
                raise
            return b""
        blocks = []
        while count:
            blocks.append(os.read(self._read, count))
            count -= len(blocks[-1])
        return b"".join(blocks)

    def close(self) -> None:
        """Close the pipe."""
        os.close(self._read)
        os.close(self._write)


class LogWriter:
    """Moves bytes from pipes to the end of a log. There must be one writer per folder."""

    def __init__(self, folder: str, *, max_size: int, max_files: int, peek: Peek) -> None:
        """Open the log of *folder*, made if missing, and mend what a killed writer left."""
        self.folder = folder
        self.max_size = max_size
        self.max_files = max_files
        self._peek = peek
        os.makedirs(folder, 0o700, exist_ok=True)
        existing = numbers(folder)
        self._open(existing[-1] if existing else 1)

    def move(self, fd: int, stream: int, most: int = CHUNK) -> int:
        """Move up to *most* bytes from pipe *fd* to the log and return how many; 0: it is empty.

        Raises:
            OSError: the disk is full or broken. The bytes are still in the pipe.
        """
        count, rotate = most, False
        if self._size + most > self.max_size:
            count, rotate = self._until_cut(fd)
            if rotate and not count:
                self._rotate()
                count, rotate = self._until_cut(fd)
            if count > most:
                count, rotate = most, False
        moved = self._splice(fd, stream, count) if count else 0
        if rotate and moved == count:
            with suppress(OSError):  # on a full disk it is due before the next move
                self._rotate()
        return moved

    def close(self) -> None:
        """Close the files."""
        os.close(self._log)
        os.close(self._index)

    def _open(self, number: int) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        # The index first: a reader that finds a log finds its index.
        index = os.open(index_path(self.folder, number), flags, 0o600)
        try:
            log = os.open(log_path(self.folder, number), flags, 0o600)
        except OSError:
            os.close(index)
            raise
        self._index, self._log, self._number = index, log, number
        self._size = os.fstat(log).st_size
        self._records = os.fstat(index).st_size // RECORD.size
        self._last = (-1, 0, 0)
        self._mend()

    def _mend(self) -> None:
        """Drop what is torn off, and records of bytes that a power loss took."""
        while self._records:
            data = os.pread(self._index, RECORD.size, (self._records - 1) * RECORD.size)
            word, when = RECORD.unpack(data)
            if word & OFFSET_MASK <= self._size:
                self._last = (word & OFFSET_MASK, word >> STREAM_SHIFT, when)
                break
            self._records -= 1
        os.ftruncate(self._index, self._records * RECORD.size)
        if self._size and not self._records:
            self._size, size = 0, self._size
            self._record(STDOUT, os.fstat(self._log).st_mtime_ns)
            self._size = size

    def _splice(self, fd: int, stream: int, count: int) -> int:
        self._record(stream, time.time_ns())
        try:
            moved = os.splice(fd, self._log, count, offset_dst=self._size, flags=_FLAGS)
        except BlockingIOError:
            return 0
        except OSError:
            # Part of it may have been written before the disk was full.
            self._size = os.fstat(self._log).st_size
            raise
        self._size += moved
        return moved

    def _record(self, stream: int, now: int) -> None:
        offset, last_stream, when = self._last
        empty = offset == self._size
        if stream == last_stream and not empty and 0 <= now - when < _SAME_NS:
            return
        number = self._records - empty
        data = RECORD.pack(self._size | stream << STREAM_SHIFT, now)
        os.pwrite(self._index, data, number * RECORD.size)
        self._records = number + 1
        self._last = (self._size, stream, now)

    def _until_cut(self, fd: int) -> tuple[int, bool]:
        """Return how many bytes to move next, and whether to rotate after them."""
        waiting = self._peek.look(fd)
        room = self.max_size - self._size
        if len(waiting) <= room:
            return len(waiting), False
        cut = waiting.rfind(b"\n", 0, max(room, 0)) + 1
        if not cut and self._size and os.pread(self._log, 1, self._size - 1) == b"\n":
            return 0, True
        cut = cut or waiting.find(b"\n") + 1
        if cut:
            return cut, True
        # A line longer than the pipe: wait for its end, but not for ever.
        return len(waiting), self._size > 2 * self.max_size

    def _rotate(self) -> None:
        finished = (self._log, self._index)
        self._open(self._number + 1)
        for fd in finished:
            os.close(fd)
        oldest = self._number - max(self.max_files, 1) + 1
        for name in os.listdir(self.folder):
            number = name.partition(".")[0]
            if number.isdecimal() and int(number) < oldest:
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(self.folder, name))
