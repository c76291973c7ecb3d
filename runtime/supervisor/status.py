"""What is known of a container, as a file that needs no supervisor to be read.

``run/containers/<id>/status.json`` is written, atomically, at each transition only. Between a
transition and its being written, and while no supervisor lives, it tells the past: so readers
believe ``running`` only while a process of that pid and start time exists.
"""

import dataclasses
import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from runtime.documents import read_note
from runtime.errors import NotFoundError
from runtime.kernel.procfs import is_running
from runtime.kernel.replace import replace_file
from runtime.record import dataclass

if TYPE_CHECKING:  # the supervisor imports this module, and Root is five megabytes
    from runtime.root import Root

FILE = "status.json"
LAST = "ended.json"
"""In the container's state folder, while it has ended for good: how, for after a reboot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One container. Times are seconds since the epoch."""

    id: str
    state: str = "created"
    """``created`` being launched; ``running``; ``exited`` ended for good; ``restarting`` waits
    to be started again; ``dead`` could not be started, see *error*."""
    pid: int = 0
    """0 when it does not run."""
    start_time: int = 0
    """Of *pid*, in clock ticks since boot, from /proc/PID/stat: tells a reused pid."""
    started_at: float | None = None
    exit_code: int | None = None
    """Of the last end: 128 + n for signal n; None while it never ended, or if unknown."""
    signal: int | None = None
    """That ended it."""
    finished_at: float | None = None
    restarts: int = 0
    """How often it was started again since it was launched."""
    health: str = "none"
    """``none | starting | healthy | unhealthy``"""
    health_output: str = ""
    """What the last probe said."""
    error: str = ""
    oom_killed: bool = False
    stop_requested: bool = False
    """Somebody asked it to end: no policy starts it again."""
    resumes: bool = False
    """It was asked to end because the host goes down, and comes back with it."""
    kill_at: float | None = None
    """When SIGKILL follows, while it is being stopped."""
    next_start: float | None = None
    """When it is started again, while ``restarting``."""
    attempts: int = 0
    """Quick ends in a row, as counted by the restart policy."""
    oom_count: int = 0
    """Kills for memory in its cgroup, as of its start."""
    resting: bool = False
    """Of one that is *balanced*: it ended or was unhealthy, and has not been well since. Nothing
    new that comes to published ports goes to it while another one can take it."""
    ending: bool = False
    """Of one that is *balanced*: it is being stopped, or about to be; as *resting* for traffic."""
    paused: bool = False
    """Somebody has it stand still: its health is not looked at."""
    token: str = ""
    """Of the LaunchRequest."""

    @property
    def ended(self) -> bool:
        """Whether it does not run and will not by itself."""
        return self.state in ("exited", "dead")

    @property
    def spared(self) -> bool:
        """Whether published traffic goes to others, while any of them can take it."""
        return self.resting or self.ending


def encode(status: Status) -> dict[str, Any]:
    """Return *status* as a JSON object with camelCase keys."""
    return {_KEYS[name]: getattr(status, name) for name in _KEYS}


def decode(data: dict[str, Any]) -> Status:
    """Return *data* as a Status; unknown keys are ignored."""
    return Status(**{name: data[key] for name, key in _KEYS.items() if key in data})


def write(folder: str, status: Status) -> None:
    """Replace the status file in the container's run folder, atomically."""
    replace_file(os.path.join(folder, FILE), json.dumps(encode(status)).encode())


def read_recorded(folder: str) -> Status | None:
    """Return what the file in that run folder says, believed or not; None if there is none.

    One that cannot be read is none: a loss of power left that, which no container survives.
    """
    data = read_note(os.path.join(folder, FILE))
    return None if data is None else decode(data)


def write_last(folder: str, status: Status) -> None:
    """Keep how the container ended in its state *folder*; not synced."""
    replace_file(os.path.join(folder, LAST), json.dumps(encode(status)).encode())


def read_last(folder: str) -> Status | None:
    """Return how the container ended for good in a former boot; None if it ran, or nobody knows.

    For where the run folder has nothing of it.
    """
    data = read_note(os.path.join(folder, LAST))
    return None if data is None else decode(data)


def forget_last(folder: str) -> None:
    """Take note that the container runs again, or is about to. Idempotent."""
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(folder, LAST))


def read(root: "Root", container_id: str, *, proc: str = "/proc") -> Status:
    """Return the container's status, without a supervisor.

    Raises:
        NotFoundError: no such container was launched since the run folder was made.
    """
    status = read_recorded(os.path.join(root.run, "containers", container_id))
    if status is None:
        raise NotFoundError(f"no container {container_id}")
    return _believed(status, proc)


def read_all(root: "Root", *, proc: str = "/proc") -> dict[str, Status]:
    """Return the status of every container the run folder knows, by id, sorted.

    Writes nothing, starts nothing. A container that is recorded as running but whose process
    is gone, as after a reboot, is ``exited`` with an unknown code.
    """
    found: dict[str, Status] = {}
    folder = os.path.join(root.run, "containers")
    with suppress(FileNotFoundError):
        for name in sorted(os.listdir(folder)):
            status = read_recorded(os.path.join(folder, name))
            if status is not None:
                found[name] = _believed(status, proc)
    return found


def _believed(status: Status, proc: str) -> Status:
    if status.state == "running" and not is_running(status.pid, status.start_time, proc=proc):
        return dataclasses.replace(status, state="exited", pid=0, exit_code=None)
    return status


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(map(str.capitalize, rest))


_KEYS = {member.name: _camel(member.name) for member in dataclasses.fields(Status)}
