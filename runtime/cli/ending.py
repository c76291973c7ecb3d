"""``kill`` and ``delete``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress

from runtime.cgroup.group import Cgroup
from runtime.cli import group as cgroups
from runtime.cli.arguments import UsageError, only
from runtime.cli.context import Context
from runtime.cli.folder import Folder, Status, condition, list_ids
from runtime.errors import DamagedError, NotFoundError, StateError
from runtime.kernel.bare import signal
from runtime.kernel.pidfd import open_running
from runtime.kernel.procfs import is_running
from runtime.kernel.readable import wait_readable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_DEATH_S = 10.0
_FROZEN_AFTER_S = 0.5
"""A process that still lives so long after its SIGKILL may be frozen in another group."""

Values = Mapping[str, list[str]]


def kill(context: Context, values: Values, rest: list[str]) -> int:
    """Send a signal to the container's process, or to all processes in it."""
    if len(rest) not in (1, 2):
        raise UsageError("give a container id and a signal")
    number = signal_number(rest[1] if len(rest) == 2 else "SIGTERM")
    folder = context.folder(rest[0])
    status = folder.read()
    group = cgroups.open_group(status)
    if "all" in values and group is not None:
        group.signal(number)
    else:
        _send(status, number)
    if number == signal.SIGKILL and group is not None and group.is_frozen():
        group.thaw()  # a frozen process does not even die
    return 0


def delete(context: Context, values: Values, rest: list[str]) -> int:
    """Take away a stopped container, one that was never started, or with force any."""
    force = "force" in values
    if "regex" in values:
        import re

        try:
            pattern = re.compile(only(rest, "regular expression"))
        except re.error as error:
            raise UsageError(f"not a regular expression: {error}") from error
        ids = [each for each in list_ids(context.root) if pattern.search(each)]
    else:
        ids = [only(rest)]
    for each in ids:
        _delete(context, context.folder(each), force=force)
    return 0


def _delete(context: Context, folder: Folder, *, force: bool) -> None:
    try:
        if force:
            _kill_early(folder)
        with folder.locked():
            status = _read(context, folder, force=force)
            if status is None:
                _clear_half_made(context, folder)
                return
            word = condition(folder, status)
            if word == "running" and not force:
                how = "paused" if cgroups.is_frozen(status) else word
                raise StateError(f"cannot delete container {folder.id}: it is {how}")
            destroy(context, folder, status)
    except NotFoundError:
        if not force:
            raise


def _read(context: Context, folder: Folder, *, force: bool) -> Status | None:
    """Return its status; None for one never finished, or damaged, which only *force* deletes."""
    try:
        return folder.read()
    except NotFoundError:
        if not force or not os.path.isdir(folder.path):
            raise
    except DamagedError as error:
        if not force:
            raise
        context.report.warning(
            f"{error.path} is damaged ({error.how}): of its processes only those in the cgroup"
            " that its config names are known, and no poststop hooks are run"
        )
    return None


def _clear_half_made(context: Context, folder: Folder) -> None:
    """Take away what a `create` that was killed has left, or what has a damaged status."""
    try:
        begun = folder.read(making=True)
    except (NotFoundError, DamagedError):
        _clear_group(context, folder)
    else:
        _end(begun)
    folder.remove()


def _clear_group(context: Context, folder: Folder) -> None:
    """Take away the cgroup of a container without a status: only the config names it."""
    if not context.has_cgroups:
        return
    config: dict[str, Any] = {}
    with suppress(NotFoundError, DamagedError):
        config = folder.read_config()
    path = (config.get("linux") or {}).get("cgroupsPath") or ""
    unit = None
    if (":" in path and not path.startswith("/")) if path else context.has_scopes:
        from runtime.cgroup.scope import scope_of

        scope = scope_of(path, folder.id)
        name, unit = scope.group, scope.unit
    else:
        name = cgroups.group_name(config, folder.id, folder.root)
    group = cgroups.named_group(name)
    if folder.owned_group:
        cgroups.remove(group, unit)
    elif unit is None:  # a scope ended when whoever made it did
        # Nothing says that the group is its own, and then it has no process yet.
        cgroups.remove_unused(group)


def _kill_early(folder: Folder) -> None:
    """Kill the container's process and hook without the lock, which is held while a hook hangs."""
    folder.doom()
    for making in (True, False):
        with suppress(NotFoundError, StateError, DamagedError):
            status = folder.read(making=making)
            if not status.pid:
                continue
            _send(status, signal.SIGKILL)
            group = cgroups.open_group(status)
            if group is not None and group.is_frozen():
                group.thaw()


def destroy(context: Context, folder: Folder, status: Status) -> None:
    """Kill what is left of the container, run its poststop hooks and forget it.

    Raises:
        StateError: a process survives.
    """
    try:
        config = folder.read_config()
    except DamagedError as error:
        context.report.warning(f"{error.path} is damaged ({error.how}): no poststop hooks are run")
        config = {}
    _end(status)
    folder.remove()
    if config.get("hooks"):
        from runtime.cli.bundle import to_spec
        from runtime.cli.hooks import run_poststop

        spec = to_spec(config, status.bundle, warn=lambda _text: None)
        run_poststop(context, spec, status)


def _end(status: Status) -> None:
    """Kill all that is left of the container and take its cgroup away."""
    group = cgroups.open_group(status)
    if is_running(status.pid, status.start):
        with suppress(StateError):
            _send(status, signal.SIGKILL)
        if group is not None and group.is_frozen():
            group.thaw()
        kill_process(status, group)
    if group is not None:
        cgroups.remove(group, status.scope)


def kill_process(status: Status, group: Cgroup | None = None) -> None:
    """Kill the container's process, of *group* if it has one, and wait for its end.

    Raises:
        StateError: it survives.
    """
    try:
        pidfd = open_running(status.pid, status.start)
    except ProcessLookupError:
        return
    try:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        if group is not None and not wait_readable(pidfd, _FROZEN_AFTER_S):
            group.take_back(status.pid)
        if not wait_readable(pidfd, _DEATH_S):
            raise StateError(f"process {status.pid} of container {status.id} survives SIGKILL")
    finally:
        os.close(pidfd)


def _send(status: Status, number: int) -> None:
    """Send a signal to the container's process.

    Raises:
        StateError: it has ended.
    """
    try:
        pidfd = open_running(status.pid, status.start)
        try:
            signal.pidfd_send_signal(pidfd, number)
        finally:
            os.close(pidfd)
    except ProcessLookupError:
        raise StateError(f"container not running: {status.id}") from None


def signal_number(text: str) -> int:
    """Return the number of a signal given as ``9``, ``KILL`` or ``SIGKILL``; 0 only asks.

    Raises:
        UsageError: there is no such signal.
    """
    if text.isdecimal() and int(text) < signal.NSIG:
        return int(text)
    name = text.upper()
    name = name if name.startswith("SIG") else f"SIG{name}"
    base, sign, offset = name.partition("+")
    found: object
    if base == "SIGRTMIN" and sign and offset.isdecimal():
        found = signal.SIGRTMIN + int(offset)
    else:
        found = getattr(signal, name, None)
    if not isinstance(found, int) or name.startswith("SIG_") or found >= signal.NSIG:
        raise UsageError(f"there is no signal {text}")
    return found
