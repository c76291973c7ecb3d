"""From a container's FIFOs (and terminal) to its log.

The pump never holds a byte: see logfile. The FIFOs are made here too; the container and the
supervisor each open them for reading and writing, so that neither sees the other's end.

A stream may have a *follower*: the pipe of a client that started the container in the foreground.
It gets each byte before the log does, by tee(2), and one that is full holds the stream up, as
any pipe does: nothing is dropped, whatever the log rotates away. Only a supervisor that is killed
between the two may, as its successor, hand the last pipe-full over a second time.
"""

import errno
import fcntl
import os
import struct
import time
from collections.abc import Callable
from contextlib import suppress

from runtime.errors import KernelError
from runtime.kernel.pipe import SPLICE_F_MOVE, SPLICE_F_NONBLOCK, tee
from runtime.supervisor.logfile import CHUNK, STDERR, STDOUT, LogWriter
from runtime.supervisor.loop import HUP, IN, OUT, Loop, Timer

FIFOS = {STDOUT: "stdout", STDERR: "stderr"}

PIPE_SIZE = 256 << 10
_SLOW_S = 0.005
"""A move that takes longer waits for the disk; its pump then rests, so that the loop does not."""
_REST = 4.0
_RETRY_S = 1.0
"""After an error of the disk."""
_TERMINAL_ROUNDS = 64
_FLAGS = SPLICE_F_MOVE | SPLICE_F_NONBLOCK
_FIONREAD = 0x541B  # asm-generic/ioctls.h
_DISK = -1
_FOLLOWER = -2
"""Who is in the way of a move."""


def make_fifos(folder: str, *, uid: int, gid: int) -> None:
    """Make the FIFOs in *folder*, owned by the container's user so that it may reopen them.

    Idempotent. The folder itself keeps everybody else out.
    """
    for name in FIFOS.values():
        path = os.path.join(folder, name)
        with suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        os.chown(path, uid, gid)


def open_fifo(folder: str, stream: int, *, blocking: bool) -> int:
    """Open one FIFO for reading and writing: there is never an end of file, nor EPIPE."""
    flags = os.O_RDWR | os.O_CLOEXEC | (0 if blocking else os.O_NONBLOCK)
    return os.open(os.path.join(folder, FIFOS[stream]), flags)


class Pump:
    """Feeds one container's log from now until close(). Owns the log, not the other descriptors."""

    def __init__(
        self,
        loop: Loop,
        log: LogWriter,
        fifos: dict[int, int],
        *,
        left: Callable[[int], None] = lambda _stream: None,
    ) -> None:
        """Start moving from *fifos*: stream to descriptor, non-blocking.

        ``left(stream)`` is called when nobody reads a follower any more.
        """
        self.log = log
        self._fifos = fifos
        self.error = ""
        """Why the log cannot be written right now; empty when it can."""
        self._loop = loop
        self._timers: dict[int, Timer] = {}
        self._left = left
        self._followers: dict[int, int] = {}
        self._ahead: dict[int, int] = {}
        """How many bytes a follower has of what is still in the FIFO."""
        self._held_up: set[int] = set()
        """Streams whose follower is full: watched instead of the FIFO."""
        self._terminal = -1
        self._terminal_waits = False
        for stream, fd in fifos.items():
            with suppress(PermissionError):  # the user's pipe-user-pages-soft is used up
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
            self._watch(stream)

    def attach_terminal(self, master: int) -> None:
        """Log what is written to the terminal with that (non-blocking) master, as stdout.

        The bytes pass through the stdout FIFO, so they are as safe as others. The master stays
        the caller's, who calls detach_terminal() before closing it.
        """
        self.detach_terminal()
        self._terminal = master
        self._watch_terminal()

    def detach_terminal(self) -> None:
        """Take what the terminal still holds, and look at it no more."""
        if self._terminal < 0:
            return
        self._pause_terminal()
        for _ in range(_TERMINAL_ROUNDS):
            if self._from_terminal() <= 0:
                break
            self._move_all(STDOUT)
        self._terminal, self._terminal_waits = -1, False

    def follow(self, stream: int, pipe: int) -> None:
        """Copy what comes from now on to *pipe*, non-blocking, until unfollow() or its end."""
        self._followers[stream], self._ahead[stream] = pipe, 0

    def unfollow(self, stream: int) -> None:
        """Copy no more. Idempotent. Call before closing the pipe."""
        pipe = self._followers.pop(stream, None)
        if pipe is not None and stream in self._held_up:
            self._held_up.discard(stream)
            self._loop.forget(pipe)
            self._watch(stream)

    def drain(self) -> bool:
        """Move what is in the pipes now; return False if disk or follower does not take it."""
        return all([self._move_all(stream) for stream in self._fifos])

    def close(self) -> None:
        """Stop, and close the log."""
        self.detach_terminal()
        for timer in self._timers.values():
            timer.cancel()
        for fd in (*self._fifos.values(), *self._followers.values()):
            self._loop.forget(fd)
        self.log.close()

    def _watch(self, stream: int) -> None:
        self._loop.watch(self._fifos[stream], IN, lambda _events: self._on_fifo(stream))

    def _on_fifo(self, stream: int) -> None:
        begun = time.monotonic()
        moved = self._move(stream)
        took = time.monotonic() - begun
        if moved == _FOLLOWER:
            self._await_follower(stream)
        elif moved == _DISK:
            self._rest(stream, _RETRY_S)
        elif took > _SLOW_S:
            self._rest(stream, took * _REST)

    def _rest(self, stream: int, delay: float) -> None:
        self._loop.forget(self._fifos[stream])
        self._timers[stream] = self._loop.call_later(delay, lambda: self._watch(stream))

    def _await_follower(self, stream: int) -> None:
        pipe = self._followers[stream]
        self._held_up.add(stream)
        self._loop.forget(self._fifos[stream])

        def ready(_events: int) -> None:
            self._held_up.discard(stream)
            self._loop.forget(pipe)
            self._watch(stream)

        self._loop.watch(pipe, OUT, ready)

    def _copy(self, stream: int) -> int:
        """Give the follower its copy; return how many bytes may go to the log, or _FOLLOWER."""
        pipe = self._followers.get(stream)
        if pipe is None:
            return CHUNK
        if not self._ahead[stream]:
            try:
                self._ahead[stream] = tee(self._fifos[stream], pipe, CHUNK, SPLICE_F_NONBLOCK)
            except KernelError as error:
                if error.errno == errno.EPIPE:
                    self.unfollow(stream)
                    self._left(stream)
                    return CHUNK
                if error.errno != errno.EAGAIN:
                    raise
                return _FOLLOWER if _waiting(self._fifos[stream]) else 0
        return self._ahead[stream]

    def _move(self, stream: int) -> int:
        """Move once; return the bytes moved, or else who is in the way."""
        most = self._copy(stream)
        if most <= 0:
            return most
        try:
            moved = self.log.move(self._fifos[stream], stream, most)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS):
                raise
            self.error = f"{self.log.folder}: {error.strerror}"
            return _DISK
        self.error = ""
        if stream in self._followers:
            self._ahead[stream] -= moved
        if moved and stream == STDOUT and self._terminal_waits:
            self._watch_terminal()
        return moved

    def _move_all(self, stream: int) -> bool:
        # Bounded: somebody may write as fast as we read.
        for _ in range(2 * PIPE_SIZE // CHUNK + 8):
            moved = self._move(stream)
            if moved <= 0:
                return moved == 0
        return True

    def _watch_terminal(self) -> None:
        self._terminal_waits = False
        self._loop.watch(self._terminal, IN, self._on_terminal)

    def _pause_terminal(self) -> None:
        self._loop.forget(self._terminal)
        if timer := self._timers.pop(self._terminal, None):
            timer.cancel()

    def _on_terminal(self, events: int) -> None:
        if self._from_terminal() > 0 and self._move(STDOUT) >= 0:
            return
        self._pause_terminal()
        if events & HUP:
            # Nobody has it open now; somebody may again.
            self._timers[self._terminal] = self._loop.call_later(_RETRY_S, self._watch_terminal)
        else:
            # The FIFO is full: until it has room again.
            self._terminal_waits = True

    def _from_terminal(self) -> int:
        """Move from the terminal to its FIFO; return the bytes moved, -1 if none could be."""
        try:
            return os.splice(self._terminal, self._fifos[STDOUT], 4096, flags=_FLAGS)
        except BlockingIOError:
            return -1
        except OSError as error:
            if error.errno != errno.EIO:  # nobody has the terminal open
                raise
            return -1


def _waiting(pipe: int) -> int:
    """Return how many bytes are in a pipe."""
    data = fcntl.ioctl(pipe, _FIONREAD, bytes(4))
    return int(struct.unpack("i", data)[0])
