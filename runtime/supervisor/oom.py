"""Told by the kernel when it kills in a container for want of memory, also what is not its first.

Version 2 modifies ``memory.events``; version 1 writes to an eventfd that was handed to
``cgroup.event_control``, a moment before it kills. Neither says how often: the files that
`exits.oom_kills` reads do.
"""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress

from runtime.cgroup.files import write
from runtime.errors import KernelError
from runtime.kernel.inotify import (
    IN_CLOEXEC,
    IN_MODIFY,
    IN_NONBLOCK,
    inotify_add_watch,
    inotify_init1,
    read_events,
)
from runtime.supervisor.loop import IN, Loop

_BEFORE_THE_KILL_S = 0.05

Look = Callable[[], None]


class OomWatcher:
    """Watches the cgroups of all containers. A host that cannot tell is no error."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._inotify = -1
        """One for all: a user may have 128 of them only."""
        self._looks: dict[int, Look] = {}

    def watch(self, files: Iterable[str], look: Look) -> Callable[[], None]:
        """Call *look* whenever what is in *files* may have grown; return what ends that."""
        ends: list[Callable[[], None]] = []
        for path in files:
            with suppress(OSError, KernelError):  # the group has just gone, or no watch is left
                name = os.path.basename(path)
                ends.append(
                    self._modified(path, look)
                    if name == "memory.events"
                    else self._notified(path, look)
                )

        def end() -> None:
            while ends:
                ends.pop()()

        return end

    def _modified(self, path: str, look: Look) -> Callable[[], None]:
        if self._inotify < 0:
            self._inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK)
            self._loop.watch(self._inotify, IN, self._read)
        watch = inotify_add_watch(self._inotify, path, IN_MODIFY)
        self._looks[watch] = look

        def end() -> None:  # the watch itself goes with the group
            if self._looks.get(watch) is look:
                del self._looks[watch]

        return end

    def _read(self, _events: int) -> None:
        with suppress(BlockingIOError):
            for watch in {watch for watch, _, _ in read_events(self._inotify)}:
                if watch in self._looks:
                    self._looks[watch]()

    def _notified(self, path: str, look: Look) -> Callable[[], None]:
        counter = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            control = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                where = os.path.join(os.path.dirname(path), "cgroup.event_control")
                write(where, f"{counter} {control}")
            finally:
                os.close(control)
        except BaseException:
            os.close(counter)
            raise
        live = True

        def ready(_events: int) -> None:
            with suppress(BlockingIOError):
                os.eventfd_read(counter)
            if os.path.exists(path):
                self._loop.call_later(_BEFORE_THE_KILL_S, look)
            else:
                end()  # that was the end of the group

        def end() -> None:
            nonlocal live
            if live:
                live = False
                self._loop.forget(counter)
                os.close(counter)

        self._loop.watch(counter, IN, ready)
        return end
