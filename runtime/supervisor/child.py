"""What one launch's child knows while it runs its operations, and how it tells its parent."""

from __future__ import annotations

import os

from runtime import json_text
from runtime.kernel.bare import socket
from runtime.kernel.passing import send_fds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST_BYTES = 65536
"""A message on the report channel is at most this long."""
GO = b"go"
"""From the parent, once it has made a child known."""
_ORPHANED = 125


class Child:
    """State of the forked child; nothing in here outlives exec."""

    __slots__ = (
        *("channel", "init_fd", "kept", "more_environment", "proc_fd", "program"),
        *("root_fd", "size", "slots", "start_fd", "state", "target"),
    )

    def __init__(
        self,
        channel: socket.socket,
        *,
        target: int,
        init_fd: int,
        size: tuple[int, int] | None,
        start_fd: int = -1,
        kept: tuple[int, ...] = (),
    ) -> None:
        self.channel = channel
        """To the parent: one JSON object a packet; closed by exec."""
        self.target = target
        """pidfd of the process whose namespaces are to be entered, or -1."""
        self.init_fd = init_fd
        """The built-in init, or -1."""
        self.size = size
        """Rows and columns a terminal has from its first moment on."""
        self.start_fd = start_fd
        """Listening socket on which `await_start` waits, or -1."""
        self.kept = kept
        """Descriptors of the caller that are to stay open, under their numbers."""
        self.state: dict[str, Any] = {}
        """What hooks are told of the container; from the last `stop`."""
        self.root_fd = -1
        """The container's root, once it is in view."""
        self.proc_fd = -1
        """The host's /proc, from `labels` to `close_labels`."""
        self.slots: dict[int, int] = {}
        """Detached mounts, from `tree` to `attach`."""
        self.more_environment: dict[str, str] = {}
        """Variables that are in no program, because they hold secrets."""
        self.program = ""
        """Path of what will be executed, from `find` on."""

    def descriptors(self) -> set[int]:
        """Return what must be open besides the standard streams."""
        found = {self.channel.fileno(), self.target, self.init_fd, self.start_fd, *self.kept}
        return found - {-1}

    def send(self, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        """Tell the parent."""
        data = json_text.dumps(message).encode()
        if fds:
            send_fds(self.channel, data, fds)
        else:
            self.channel.send(data)

    def await_parent(self) -> None:
        """Wait until the parent has made this process known; end if the parent dies before that.

        A program must not run that nobody would find: it would be started a second time.
        """
        if self.channel.recv(len(GO)) != GO:
            os._exit(_ORPHANED)

    def warn(self, text: str) -> None:
        """Tell the parent of something that was asked for and cannot be had."""
        self.send({"warning": text})


def environment(items: tuple[str, ...]) -> dict[str, str]:
    """Return ``NAME=value`` items as a mapping; the last of a name wins."""
    return dict(item.split("=", 1) for item in items if "=" in item)
