"""What supervisor, keeper and clients must agree on without talking: paths, numbers, words."""

import os

from runtime.kernel.selfexe import Code as Code
from runtime.kernel.selfexe import command as command
from runtime.kernel.selfexe import own_code as own_code

SOCKET = "supervisor.sock"
LOCK = "supervisor.lock"
LOG = "supervisor.log"
"""Tracebacks of supervisor and keeper, in the run folder; removed with them if empty."""

LISTEN_FD = 3
LOCK_FD = 4
KEEPER_FD = 5
"""What keeper and supervisor find open after exec; the last is the supervisor's only."""

STATE_FD = 3
"""Where check_state finds what it is to check."""

CONTAINER = "container/"
EXEC = "exec/"
PROBE = "probe/"
"""First parts of the names by which the keeper knows children; probes die with the supervisor."""

COMM = "bayplan-sup"
"""Name of the supervisor as ps shows it, and of its children until their exec."""


class Home:
    """Where one world lives: what supervisor and keeper need of a runtime.root.Root.

    Root itself is not imported there: pathlib and hashlib are five megabytes.
    """

    __slots__ = ("cgroup", "run", "state")

    def __init__(self, state: str, run: str, cgroup: str) -> None:
        self.state = state
        self.run = run
        self.cgroup = cgroup

    @property
    def containers(self) -> str:
        """Folder of the containers' run folders."""
        return os.path.join(self.run, "containers")

    def arguments(self) -> list[str]:
        """Return what Home(*arguments) makes an equal one of."""
        return [self.state, self.run, self.cgroup]

    def state_folder(self, container_id: str) -> str:
        """Return where what a reboot leaves of the container is."""
        return os.path.join(self.state, "containers", container_id)

    def run_folder(self, container_id: str) -> str:
        """Return where the container's FIFOs, request and status are."""
        return os.path.join(self.containers, container_id)
