"""What a container writes: its FIFOs, its terminal, and the pump to its log.

Descriptors that must outlive the supervisor are held by the keeper, under the container's name.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from runtime.supervisor.context import Context
from runtime.supervisor.logfile import LogWriter
from runtime.supervisor.pump import FIFOS, Pump, make_fifos, open_fifo
from runtime.supervisor.request import LaunchRequest, Logs

_RETRY_S = 1.0
_FOLLOWER_S = 0.02
"""A follower that is behind has the rest soon."""


class Output:
    """Of one container, over all its starts. Open from prepare() until it is closed."""

    def __init__(self, context: Context, name: str, folder: str) -> None:
        """*name* is the keeper's for the container, *folder* the run folder."""
        self._context = context
        self._folder = folder
        self._names = {stream: f"{name}/{fifo}" for stream, fifo in FIFOS.items()}
        self._terminal_name = f"{name}/terminal"
        self._follower_names = {s: f"{name}/{fifo}-follower" for s, fifo in FIFOS.items()}
        self._pump: Pump | None = None
        self._closing = False

    @property
    def active(self) -> bool:
        """Whether there may be bytes that are not in the log yet."""
        return self._pump is not None

    @property
    def inherited(self) -> bool:
        """Whether the keeper held FIFOs when this supervisor began, or holds them by now."""
        return all(name in self._context.link.held for name in self._names.values())

    @property
    def terminal(self) -> int | None:
        """Master of the terminal, while there is one."""
        return self._context.link.held.get(self._terminal_name)

    def prepare(self, wanted: LaunchRequest) -> None:
        """Have FIFOs: those the keeper holds, or new ones. Idempotent.

        Raises:
            OSError: they cannot be made.
        """
        self._closing = False
        make_fifos(self._folder, uid=wanted.uid, gid=wanted.gid)
        for stream, name in self._names.items():
            if name not in self._context.link.held:
                fd = open_fifo(self._folder, stream, blocking=False)
                self._context.link.hold(name, fd)

    @contextmanager
    def child_ends(self) -> Iterator[tuple[int, ...]]:
        """Yield the FIFOs as the container gets them: stdout, stderr."""
        opened: list[int] = []
        try:
            for stream in FIFOS:
                opened.append(open_fifo(self._folder, stream, blocking=True))
            yield tuple(opened)
        finally:
            for fd in opened:
                os.close(fd)

    def open(self, logs: Logs) -> None:
        """Start logging from the FIFOs and the terminal there is; idempotent.

        Raises:
            OSError: the log cannot be opened.
        """
        if self._pump is not None:
            return
        held = self._context.link.held
        writer = LogWriter(
            logs.path,
            max_size=logs.max_size,
            max_files=logs.max_files,
            peek=self._context.peek,
        )
        fifos = {stream: held[name] for stream, name in self._names.items()}
        self._pump = Pump(self._context.loop, writer, fifos, left=self._follower_left)
        for stream, name in self._follower_names.items():
            if name in held:
                self._pump.follow(stream, held[name])
        if self.terminal is not None:
            self._pump.attach_terminal(self.terminal)

    def follow(self, stream: int, pipe: int) -> None:
        """Have *pipe*, ours from now on, get all that comes from *stream* from here on."""
        os.set_blocking(pipe, False)
        if self._pump is not None:
            self._pump.unfollow(stream)
        self._context.link.hold(self._follower_names[stream], pipe)
        if self._pump is not None:
            self._pump.follow(stream, pipe)

    def configure(self, logs: Logs) -> None:
        """Rotate as *logs* say from now on."""
        if self._pump is not None:
            self._pump.log.max_size = logs.max_size
            self._pump.log.max_files = logs.max_files

    def take_terminal(self, master: int) -> None:
        """Log what comes from a terminal; *master* is ours from now on."""
        os.set_blocking(master, False)
        self._context.link.hold(self._terminal_name, master)
        if self._pump is not None:
            self._pump.attach_terminal(master)

    def process_ended(self) -> None:
        """Take everything that was written; the FIFOs stay for the next start."""
        if self._pump is not None:
            self._pump.detach_terminal()
            self._pump.drain()
        self._context.link.drop(self._terminal_name)

    def finish(self) -> None:
        """Close, as soon as everything is in the log.

        While the disk is full, or a follower does not read, that takes a while: rather keep the
        bytes in their pipes.
        """
        self._closing = True
        self._try_close()

    def close(self) -> None:
        """Close now, whatever is still in the pipes."""
        if self._pump is not None:
            self._pump.close()
            self._pump = None
        for name in (*self._names.values(), *self._follower_names.values()):
            self._context.link.drop(name)

    def _follower_left(self, stream: int) -> None:
        self._context.link.drop(self._follower_names[stream])

    def _try_close(self) -> None:
        # prepare() may have come in between.
        if self._closing and (self._pump is None or self._pump.drain()):
            self.close()
        elif self._closing:
            slow = _RETRY_S if self._pump is not None and self._pump.error else _FOLLOWER_S
            self._context.loop.call_later(slow, self._try_close)
