"""Waiting for a container to become what it should be, and telling why it did not.

The supervisor writes a container's status at each transition; this looks at it. Every wait has
a deadline of ``time.monotonic()`` and ends early when *stopping* is set.
"""

import threading
import time
from collections.abc import Iterator

from provider.drivers.container_observe import how_it_ended, is_done
from provider.engine.ports import CutShortError, UnsettledError
from provider.model.tree import Tree
from provider.model.units import format_duration
from runtime.container.containers import Containers
from runtime.container.folders import log_folder
from runtime.container.state import uptime
from runtime.supervisor import logs
from runtime.supervisor.status import Status

_LOOK_EVERY_S = 0.02
_LOG_TAIL = 10
_MOST_RESTARTS = 3
"""A container that ended that often while it was awaited will not settle."""
_NOT_A_JOB = "what runs to completion is a Job; a daemon stays in the foreground"


def settled(
    containers: Containers,
    container_id: str,
    wanted: Tree,
    stopping: threading.Event,
    deadline: float,
) -> None:
    """Wait until the container is healthy, or without a health check ran for its ``healthyFor``.

    One that has done what it was for (see ``is_done``) needs no more proof. *wanted* is its
    effective tree.

    Raises:
        UnsettledError: it ended, became unhealthy, or the deadline came first.
    """
    healthy_for: float = wanted["update"]["healthyFor"]
    first: Status | None = None
    for status in _watch(containers, container_id, stopping, deadline):
        first = first or status
        if status.state == "running" and status.health == "healthy":
            return
        if status.state == "running" and status.health == "none" and uptime(status) >= healthy_for:
            return
        if is_done(status, wanted):
            return
        if status.ended:
            raise _ended_too_soon(containers, status, healthy_for)
        if status.restarts - first.restarts >= _MOST_RESTARTS:
            words = f"it does not stay up: {how_it_ended(status)}, {status.restarts} times"
            raise _failure(containers, status, words)
        if status.health == "unhealthy":
            words = f"it is unhealthy: {status.health_output or 'the probe gave no output'}"
            raise _failure(containers, status, words)
    status = containers.status(container_id)
    within = format_duration(healthy_for)
    awaited = "to become healthy" if status.health != "none" else f"to run for {within}"
    words = f"gave up waiting for it {awaited}; it is {status.state}"
    if status.health_output:
        words += f", last probe: {status.health_output}"
    raise _failure(containers, status, words)


def completed(
    containers: Containers,
    container_id: str,
    after: Tree,
    stopping: threading.Event,
    deadline: float,
) -> Tree:
    """Wait until a Job's container has ended well, starting it again as often as it may.

    An attempt that takes longer than the Job's timeout is killed and has failed. Returns the
    result to record.

    Raises:
        UnsettledError: it failed for good; it is stopped then.
    """
    tries = after["retries"] + 1
    attempt = 1
    while True:
        limit = min(deadline, time.monotonic() + after["timeout"])
        status = _ended(containers, container_id, stopping, limit)
        # One that takes too long had its time: no grace, which would be the next attempt's.
        containers.stop(container_id, grace=0 if status is None else None)
        if status is not None and status.exit_code == 0:
            return {"state": "succeeded", "exitCode": 0, "attempts": attempt}
        if attempt == tries or time.monotonic() >= deadline:
            break
        attempt += 1
        containers.start(container_id)
    if status is None:
        words = f"it did not complete within {after['timeout']:g} s"
    else:
        words = how_it_ended(status)
    if tries > 1:
        words += f" (the last of {attempt} attempts)"
    raise _failure(containers, containers.status(container_id), words)


def _ended(
    containers: Containers, container_id: str, stopping: threading.Event, deadline: float
) -> Status | None:
    for status in _watch(containers, container_id, stopping, deadline):
        if status.ended:
            return status
    return None


def log_tail(containers: Containers, container_id: str, count: int = _LOG_TAIL) -> tuple[str, ...]:
    """Return the container's last log lines."""
    folder = str(log_folder(containers.root, container_id))
    lines = logs.read(folder, tail=count)
    return tuple(line.data.decode(errors="replace").rstrip("\n") for line in lines)


def _watch(
    containers: Containers, container_id: str, stopping: threading.Event, deadline: float
) -> Iterator[Status]:
    """Yield the status again and again until the deadline.

    Raises:
        CutShortError: *stopping* was set, and the status after that told nothing.
    """
    while True:
        last = stopping.is_set()
        yield containers.status(container_id)
        if time.monotonic() >= deadline:
            return
        if last:
            raise CutShortError
        stopping.wait(_LOOK_EVERY_S)


def _ended_too_soon(containers: Containers, status: Status, healthy_for: float) -> UnsettledError:
    words = how_it_ended(status)
    if status.exit_code != 0 or status.stop_requested:
        return _failure(containers, status, words)
    ran_for = (status.finished_at or 0.0) - (status.started_at or 0.0)
    if status.health == "starting":
        words += " before it was healthy"
    elif status.health == "none" and ran_for < healthy_for:
        words += f" before it had run for {format_duration(healthy_for)}"
    return _failure(containers, status, words, hint=_NOT_A_JOB)


def _failure(
    containers: Containers, status: Status, words: str, *, hint: str = ""
) -> UnsettledError:
    return UnsettledError(words, log_tail=log_tail(containers, status.id), hint=hint)
