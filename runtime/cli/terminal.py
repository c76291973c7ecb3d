"""Handing a terminal to whoever asked for it."""

import os
import socket

from runtime.errors import LaunchError


def send_terminal(path: str, master: int) -> None:
    """Send *master* to the console socket at *path*.

    Raises:
        LaunchError: nobody listens there.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as console:
            console.connect(path)
            socket.send_fds(
                console, [os.fsencode(os.readlink(f"/proc/self/fd/{master}"))], [master]
            )
    except OSError as error:
        raise LaunchError(f"console socket {path}: {error.strerror}") from error
