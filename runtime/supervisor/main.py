"""Entry of the supervisor process; the keeper starts it with its descriptors in place."""

import os
import socket

from runtime.supervisor.limits import raise_own_limits
from runtime.supervisor.link import Link
from runtime.supervisor.names import COMM, KEEPER_FD, LISTEN_FD, LOCK_FD, Home
from runtime.supervisor.supervisor import Supervisor


def main(arguments: list[str]) -> None:
    """Run the supervisor of Home(*arguments)."""
    for fd in (LISTEN_FD, LOCK_FD, KEEPER_FD):
        os.set_inheritable(fd, False)
    with open("/proc/self/comm", "wb", buffering=0) as file:
        file.write(COMM.encode())
    raise_own_limits()
    home = Home(*arguments)
    link = Link(home, KEEPER_FD)
    Supervisor(home, socket.socket(fileno=os.dup(LISTEN_FD)), link).run()
