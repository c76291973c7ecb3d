"""Packets to a process of ours that may read them later: what its socket does not take waits here.

A socket takes only a few hundred packets (``net.unix.max_dgram_qlen``), each with descriptors.
"""

import os
import socket
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress

from runtime.supervisor.loop import IN, OUT, Loop


class PacketChannel:
    """One end of a SEQPACKET socket pair, watched by the loop. Owns the socket."""

    def __init__(self, loop: Loop, made: socket.socket, readable: Callable[[], None]) -> None:
        """Call ``readable()`` whenever there is something to read, or the end."""
        self.socket = made
        self._loop = loop
        self._readable = readable
        self._queue: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._waiting = False
        made.setblocking(False)
        loop.watch(made.fileno(), IN, self._on_ready)

    def send(self, data: bytes, fds: tuple[int, ...] = ()) -> None:
        """Send a packet with duplicates of *fds*, now or when it is read on the other side.

        To one that has died nothing is sent: there will be an end to read.

        Raises:
            OSError: no descriptor is left; nothing is sent.
        """
        kept: list[int] = []
        try:
            for fd in fds:
                kept.append(os.dup(fd))
        except OSError:
            _close_all(kept)
            raise
        self._queue.append((data, tuple(kept)))
        self._flush()

    def close(self) -> None:
        """Close it, with what was not sent."""
        self._loop.forget(self.socket.fileno())
        self.socket.close()
        while self._queue:
            self._drop_first()

    def _flush(self) -> None:
        # One that has died is noticed by reading, also where nobody asked for its answer.
        with suppress(BlockingIOError, ConnectionError):
            while self._queue:
                data, fds = self._queue[0]
                socket.send_fds(self.socket, [data], fds)
                self._drop_first()
        if self._waiting != bool(self._queue):
            self._waiting = bool(self._queue)
            self._loop.change(self.socket.fileno(), IN | OUT if self._waiting else IN)

    def _drop_first(self) -> None:
        _data, fds = self._queue.popleft()
        _close_all(fds)

    def _on_ready(self, events: int) -> None:
        if events & OUT:
            self._flush()
        if events & ~OUT:
            self._readable()


def _close_all(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)
