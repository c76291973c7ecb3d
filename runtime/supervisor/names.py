"""What supervisor, keeper and clients must agree on without talking: paths, numbers, words."""

import os
import sys

import runtime

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

_BOOT = "import sys; sys.path.append(sys.argv[1]); from {module} import main; main(sys.argv[2:])"


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


class Code:
    """What a process of ours runs: Python, and the folder that the package is in."""

    __slots__ = ("folder", "python")

    def __init__(self, python: str, folder: str) -> None:
        self.python = python
        self.folder = folder

    def command(self, module: str, *arguments: str) -> list[str]:
        """Return the argv of a process that calls ``main(arguments)`` of *module*.

        Nothing is on its path but Python's library and us.
        """
        boot = _BOOT.format(module=module)
        return [self.python, "-I", "-S", "-c", boot, self.folder, *arguments]


def own_code() -> Code:
    """Return what this process runs."""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(runtime.__file__)))
    return Code(sys.executable, folder)


def command(module: str, *arguments: str) -> list[str]:
    """Return the argv of a process of this very code; see `Code.command`."""
    return own_code().command(module, *arguments)
