"""What has become of a container's process while no supervisor was there.

From the best witness down: the keeper reaped it, or holds its pidfd, or knows its pid; the
status file names it; its launch was cut off and it is found in the container's cgroups.
"""

import os
from contextlib import suppress

from runtime.kernel.pidfd import pidfd_open
from runtime.kernel.procfs import start_ticks
from runtime.record import dataclass
from runtime.supervisor import strays
from runtime.supervisor.link import Link
from runtime.supervisor.status import Status
from runtime.supervisor.strays import Fate


@dataclass(frozen=True, slots=True)
class Remains:
    """It runs, with *pid* and *pidfd*; or it ran and has *ended*; or it never ran."""

    pid: int = 0
    pidfd: int = -1
    """Now the caller's."""
    ended: bool = False
    code: int | None = None
    """How; None if nobody can tell. As in exits."""


def look(link: Link, name: str, known: Status, *, cgroup_procs: tuple[str, ...]) -> Remains:
    """Return what there is of the container the keeper calls *name*.

    *known* is its status file, which may be older than what the keeper knows. What a cut-off
    launch has left is killed if its program does not run yet.
    """
    if name in link.exits:
        return Remains(ended=True, code=link.exits[name])
    pid = link.children.get(name, known.pid)
    if name in link.children or known.state == "running":
        pidfd = _open(link, name, pid, known)
        return Remains(pid, pidfd) if pidfd >= 0 else Remains(ended=True)
    if name in link.unborn:
        return Remains()
    # No keeper is left that could say how far it got. One that is gone may have ended already,
    # but most likely could not go on without us.
    if pid and strays.decide(pid, start=known.start_time) in (Fate.RUNS, Fate.ENDED):
        with suppress(ProcessLookupError):
            return Remains(pid, pidfd_open(pid))
    for member in strays.first_of(strays.members(cgroup_procs)):
        strays.kill(member)
    return Remains()


def _open(link: Link, name: str, pid: int, known: Status) -> int:
    """Return a descriptor of the process; -1 if it is gone."""
    held = link.held.get(f"{name}/pidfd")
    if held is not None:
        return held
    try:
        pidfd = pidfd_open(pid)
    except ProcessLookupError:
        return -1
    # What has this pid now may be somebody else. A zombie will do: it can tell how it ended.
    if name not in link.children and start_ticks(pid) != known.start_time:
        os.close(pidfd)
        return -1
    return pidfd
