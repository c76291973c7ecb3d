"""What a start, an end or a probe makes of a container's status. Pure but for the clock."""

import time
from dataclasses import replace

from runtime.errors import LaunchError
from runtime.kernel.procfs import start_ticks
from runtime.supervisor.exits import shell_code
from runtime.supervisor.request import LaunchRequest
from runtime.supervisor.status import Status


def forked(before: Status, pid: int, *, oom_count: int) -> Status:
    """Return the status of one whose child *pid* is about to begin; kills from here on are its."""
    return replace(before, pid=pid, start_time=start_ticks(pid) or 0, oom_count=oom_count)


def started(before: Status, request: LaunchRequest, pid: int) -> Status:
    """Return the status of one whose process is *pid* from now on; 0 is one that ended already."""
    return replace(
        before,
        state="running",
        pid=pid,
        start_time=start_ticks(pid) or 0,
        started_at=time.time(),
        restarts=before.restarts + (before.state == "restarting"),
        health="starting" if request.health else "none",
        health_output="",
        # It may come up for long: only its health check tells when it is there again.
        resting=before.resting and request.health is not None,
        ending=False,
        paused=False,
        error="",
        next_start=None,
        oom_killed=False,
    )


def not_started(before: Status, request: LaunchRequest, error: LaunchError) -> Status:
    """Return the status of one that could not be launched; its state is for its policy to say."""
    return replace(
        before,
        pid=0,
        start_time=0,
        error=str(error),
        exit_code=error.exit_code,
        signal=None,
        finished_at=time.time(),
        resting=request.balanced,
    )


def died(before: Status, request: LaunchRequest, code: int | None, *, oom_count: int) -> Status:
    """Return the status of one whose process has ended; its state is for its policy to say.

    *code* is as in `exits`; None if nobody could tell.
    """
    return replace(
        before,
        pid=0,
        start_time=0,
        exit_code=None if code is None else shell_code(code),
        signal=-code if code is not None and code < 0 else None,
        finished_at=time.time(),
        kill_at=None,
        paused=False,
        resting=request.balanced,
        oom_killed=oom_count > before.oom_count,
        error="" if code is not None else "nobody could tell how it ended",
    )


def judged(before: Status, request: LaunchRequest, health: str, output: str) -> Status:
    """Return the status of one that a probe has found to be *health*."""
    resting = request.balanced and (health == "unhealthy" or before.resting)
    return replace(
        before, health=health, health_output=output, resting=resting and health != "healthy"
    )
