"""Where containers are in their life, from files and the kernel; starts and changes nothing."""

import time

from runtime.container.folders import config_file, run_folder, state_folder
from runtime.errors import NotFoundError, StateError, SupervisorError
from runtime.kernel.procfs import is_ending, is_running
from runtime.root import Root
from runtime.supervisor import status
from runtime.supervisor.client import Supervisor
from runtime.supervisor.status import Status

_END_IS_TOLD_WITHIN_S = 1.0
_LOOK_AGAIN_S = 0.005


def status_of(root: Root, container_id: str) -> Status:
    """Return where the container is.

    Raises:
        NotFoundError: there is no such container.
    """
    recorded = status.read_recorded(str(run_folder(root, container_id)))
    if recorded is None:
        if not config_file(root, container_id).exists():
            raise NotFoundError(f"no container {container_id}")
        last = status.read_last(str(state_folder(root, container_id)))
        return last or Status(id=container_id)
    if recorded.state != "running" or is_running(recorded.pid, recorded.start_time):
        return recorded
    return _just_ended(root, container_id)


def ended_meanwhile(root: Root, found: Status) -> Status | None:
    """Return *found*, or how that container has ended if it does so while it is looked at.

    None if it is ending, and takes its time.
    """
    deadline = time.monotonic() + _END_IS_TOLD_WITHIN_S
    while is_ending(found.pid, found.start_time):
        now = status_of(root, found.id)
        if now.state != "running" or now.pid != found.pid:
            return now
        if time.monotonic() > deadline:
            return None
        time.sleep(_LOOK_AGAIN_S)
    return found


def is_unattended(root: Root) -> bool:
    """Tell whether containers run, or wait to be started again, and no supervisor is there."""
    found = status.read_all(root).values()
    if all(s.ended or s.state == "created" for s in found):
        return False
    try:
        Supervisor(root, start=False).ping()
    except (NotFoundError, StateError, SupervisorError):
        return True
    return False


def is_before_boot(moment: float) -> bool:
    """Tell whether the host was started after *moment*: of what ran before, no status tells."""
    return moment < time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def uptime(found: Status) -> float:
    """Return seconds since the container was started; 0 if it does not run."""
    if found.state != "running" or found.started_at is None:
        return 0.0
    return max(0.0, time.time() - found.started_at)


def _just_ended(root: Root, container_id: str) -> Status:
    """Return how a container ended whose end may not have been written down yet.

    Only the supervisor knows; without one nobody does, and the exit code stays unknown.
    """
    deadline = time.monotonic() + _END_IS_TOLD_WITHIN_S
    while time.monotonic() < deadline:
        try:
            told = Supervisor(root, start=False).status(container_id)
        except (NotFoundError, StateError, SupervisorError):
            break
        if told.state != "running" or is_running(told.pid, told.start_time):
            return told
        time.sleep(_LOOK_AGAIN_S)
    return status.read(root, container_id)
