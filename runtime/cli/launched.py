"""What becomes of a process just launched: whoever asked gets its terminal, or it is given up."""

import os
from contextlib import closing, suppress

from runtime.errors import LaunchError
from runtime.kernel.bare import signal, socket
from runtime.kernel.passing import send_fds
from runtime.supervisor.launch import Launched


def send_terminal(path: str, launched: Launched) -> None:
    """Send the master of its terminal, if it has one, to the console socket at *path*.

    Raises:
        LaunchError: nobody listens there.
    """
    if (master := launched.terminal) is None:
        return
    from runtime.kernel.listening import short

    try:
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as console:
            with short(path) as name:
                console.connect(name)
            send_fds(console, os.fsencode(os.readlink(f"/proc/self/fd/{master}")), [master])
    except OSError as error:
        raise LaunchError(f"console socket {path}: {error.strerror or error}") from error
    os.close(master)
    launched.terminal = None


def abandon(launched: Launched) -> None:
    """Kill and collect the process."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(launched.pidfd, signal.SIGKILL)
    os.waitid(os.P_PIDFD, launched.pidfd, os.WEXITED)
    os.close(launched.pidfd)
