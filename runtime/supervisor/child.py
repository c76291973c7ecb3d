"""What one launch's child knows while it runs its operations, and how it tells its parent."""

import json
import socket
from typing import Any

MOST_BYTES = 65536
"""A message on the report channel is at most this long."""


class Child:
    """State of the forked child; nothing in here outlives exec."""

    __slots__ = (
        *("channel", "init_fd", "more_environment", "program", "root_fd"),
        *("size", "slots", "target"),
    )

    def __init__(
        self, channel: socket.socket, *, target: int, init_fd: int, size: tuple[int, int] | None
    ) -> None:
        self.channel = channel
        """To the parent: one JSON object a packet; closed by exec."""
        self.target = target
        """pidfd of the process whose namespaces are to be entered, or -1."""
        self.init_fd = init_fd
        """The built-in init, or -1."""
        self.size = size
        """Rows and columns a terminal has from its first moment on."""
        self.root_fd = -1
        """The container's root, once it is in view."""
        self.slots: dict[int, int] = {}
        """Detached mounts, from `tree` to `attach`."""
        self.more_environment: dict[str, str] = {}
        """Variables that are in no program, because they hold secrets."""
        self.program = ""
        """Path of what will be executed, from `find` on."""

    def send(self, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        """Tell the parent."""
        data = json.dumps(message).encode()
        if fds:
            socket.send_fds(self.channel, [data], fds)
        else:
            self.channel.send(data)

    def warn(self, text: str) -> None:
        """Tell the parent of something that was asked for and cannot be had."""
        self.send({"warning": text})
