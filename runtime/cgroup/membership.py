"""Folders and members: make a group in one hierarchy, list, signal and await members, remove it.

Knows neither limits nor names; ``folder`` is a group's full path in one hierarchy.
"""

import os
import select
from collections.abc import Callable, Iterable
from contextlib import suppress
from errno import EBUSY, ENOENT, ENOTEMPTY, EOPNOTSUPP

from runtime.cgroup import files
from runtime.cgroup.hierarchy import parents, walk
from runtime.cgroup.v2 import core
from runtime.cgroup.waiting import Deadline
from runtime.errors import KernelError
from runtime.kernel.bare import signal
from runtime.kernel.pidfd import pidfd_open

# The last container of a world may take the shared parent away while a new one is being made.
_ATTEMPTS = 20

# Enough to notice progress; each costs a file descriptor.
_WATCHED = 64


def make(mount: str, name: str, *, prepare: Callable[[str], None] | None = None) -> bool:
    """Make the v1 group *name* and the groups above it; tell whether it is new.

    *prepare* is called for each level, outermost first, also where it was there: a crash may have
    come between making and preparing it.
    """
    chain = (*parents(name), name)
    fresh = False
    for _ in range(_ATTEMPTS):
        try:
            # Nearly always the parents are there.
            if prepare is None:
                return _mkdir(f"{mount}/{name}")
            for level in chain:
                fresh = _mkdir(f"{mount}/{level}")
                prepare(f"{mount}/{level}")
            return fresh
        except KernelError as error:
            if not files.is_gone(error):
                raise
            for level in chain[:-1]:
                _mkdir_if_possible(f"{mount}/{level}")
    raise KernelError(ENOENT, "mkdir", f"{mount}/{name}")


def make_delegated(mount: str, name: str, controllers: frozenset[str]) -> bool:
    """Make the v2 group *name* with *controllers*, switched on in all groups above it.

    Returns whether it is new.

    Raises:
        UnsupportedHostError: a group above has processes of its own.
    """
    folder = f"{mount}/{name}"
    levels = (mount, *(f"{mount}/{parent}" for parent in parents(name)))
    for _ in range(_ATTEMPTS):
        try:
            # What is switched on before mkdir(2), which waits for whoever is at that, is there,
            # unless the group above went and came again in between.
            above = _inode(levels[-1])
            were_on = core.is_enabled(levels[-1], controllers)
            fresh = _mkdir(folder)
            if fresh and were_on and _inode(levels[-1]) == above:
                return True
            enabled = files.read(f"{folder}/cgroup.controllers").split()
            if not controllers.issubset(enabled):
                for level in levels:
                    core.enable(level, controllers)
            # Another may be at it this moment: they are in the list before their files are there.
            if fresh:
                core.wait_enabled(levels[-1], controllers)
            return fresh
        except KernelError as error:
            if not files.is_gone(error):
                raise
            for level in parents(name):
                _mkdir_if_possible(f"{mount}/{level}")
    raise KernelError(ENOENT, "mkdir", folder)


def _inode(folder: str) -> int:
    try:
        return os.stat(folder).st_ino
    except OSError as error:
        raise KernelError(error.errno or 0, "stat", folder) from error


def _mkdir(folder: str) -> bool:
    try:
        os.mkdir(folder, 0o755)
    except FileExistsError:
        return False
    except OSError as error:
        raise KernelError(error.errno or 0, "mkdir", folder) from error
    return True


def _mkdir_if_possible(folder: str) -> None:
    try:
        _mkdir(folder)
    except KernelError as error:
        if not files.is_gone(error):
            raise


def members(folder: str) -> set[int]:
    """Return the processes in a group and in those nested in it, seen from our pid namespace."""
    found: set[int] = set()
    for each in walk(folder):
        found.update(_listed(each))
    # 0 is a process that has no pid here.
    return found - {0}


def _listed(folder: str) -> set[int]:
    try:
        text = files.read_if_there(f"{folder}/cgroup.procs")
    except KernelError as error:
        # A threaded v2 group (made from inside) lists no processes; its domain, above, does.
        if error.errno == EOPNOTSUPP:
            return set()
        raise
    return {int(line) for line in (text or "").split()}


def signal_members(folder: str) -> None:
    """Send SIGKILL to each member, and to nobody else.

    The pid of a member that died may belong to a stranger by now. So it is pinned by a pidfd
    first, and only then looked up in the list again: whoever is listed then is a member.
    """
    for each in walk(folder):
        pinned: dict[int, int] = {}
        try:
            for pid in _listed(each) - {0}:
                try:
                    pinned[pid] = pidfd_open(pid)
                except ProcessLookupError:
                    continue
                if len(pinned) == _WATCHED:
                    _kill_listed(each, pinned)
            _kill_listed(each, pinned)
        finally:
            _close(pinned)


def signal_once(listed: Callable[[], Iterable[int]], number: int) -> None:
    """Send a signal once to each member that *listed* names, and to nobody else."""
    pids = sorted(listed())
    for first in range(0, len(pids), _WATCHED):
        pinned: dict[int, int] = {}
        try:
            for pid in pids[first : first + _WATCHED]:
                with suppress(ProcessLookupError):
                    pinned[pid] = pidfd_open(pid)
            for pid in pinned.keys() & set(listed()):
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pinned[pid], number)
        finally:
            _close(pinned)


def _kill_listed(folder: str, pinned: dict[int, int]) -> None:
    for pid in _listed(folder).intersection(pinned):
        try:
            signal.pidfd_send_signal(pinned[pid], signal.SIGKILL)
        except ProcessLookupError:
            continue
    _close(pinned)


def _close(pinned: dict[int, int]) -> None:
    for fd in pinned.values():
        os.close(fd)
    pinned.clear()


def wait_for_exit(pids: Iterable[int], deadline: Deadline) -> None:
    """Return when *pids* (the first of them, if there are many) are gone, or at the end."""
    watched = []
    poll = select.poll()
    try:
        for pid in list(pids)[:_WATCHED]:
            try:
                fd = pidfd_open(pid)
            except ProcessLookupError:
                continue
            watched.append(fd)
            poll.register(fd, select.POLLIN)
        while watched:
            ready = poll.poll(deadline.remaining_s * 1000)
            if not ready:
                return
            for fd, _ in ready:
                poll.unregister(fd)
                watched.remove(fd)
                os.close(fd)
    finally:
        for fd in watched:
            os.close(fd)
    # Dead, but for a moment longer in the list.
    deadline.pause()


def remove(folder: str, deadline: Deadline) -> bool:
    """Remove a group that has no others in it; False if it still has members at the end.

    Idempotent. Waits for members that are just exiting: v2 tells when the group is empty, v1 is
    asked again.
    """
    while True:
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno not in (EBUSY, ENOTEMPTY):
                raise KernelError(error.errno or 0, "rmdir", folder) from error
        else:
            return True
        if deadline.is_over:
            return False
        _wait_until_empty(folder, deadline)


def _wait_until_empty(folder: str, deadline: Deadline) -> None:
    try:
        with core.Events(folder) as events:
            if events.read().get("populated"):
                events.wait(deadline.remaining_s)
                return
    except FileNotFoundError:
        pass
    deadline.pause()
