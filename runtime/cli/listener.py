"""Handing a seccomp listener to the agent that decides the calls."""

from __future__ import annotations

import os
from contextlib import closing

from runtime import json_text
from runtime.errors import LaunchError
from runtime.kernel.bare import socket
from runtime.kernel.passing import send_fds
from runtime.spec import Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SECCOMP_STATE_VERSION = "0.2.0"


def send_listener(spec: Spec, state: dict[str, Any], pid: int, fds: tuple[int, ...]) -> None:
    """Hand a seccomp listener to the agent that asked for it, config-linux.md (seccomp state).

    *state* is the container's, *pid* that of the process with the filter. The descriptors are
    closed.

    Raises:
        LaunchError: nobody listens there.
    """
    seccomp = spec.linux.seccomp
    assert seccomp is not None
    assert seccomp.listener_path is not None
    message = {
        "ociVersion": _SECCOMP_STATE_VERSION,
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": seccomp.listener_metadata or "",
        "state": state,
    }
    from runtime.kernel.listening import short

    try:
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as agent:
            with short(seccomp.listener_path) as name:
                agent.connect(name)
            send_fds(agent, json_text.dumps(message).encode(), fds)
    except OSError as error:
        where = f"seccomp listenerPath {seccomp.listener_path}"
        raise LaunchError(f"{where}: {error.strerror or error}") from error
    finally:
        for fd in fds:
            os.close(fd)
