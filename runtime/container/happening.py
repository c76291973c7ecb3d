"""What happens to the containers of one world: from the supervisor, and from their folders.

The supervisor knows nothing of a container before its start and after its end, so that it was
made or removed is seen where it lives on disk.
"""

import queue
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from runtime.container.config import read_config
from runtime.container.folders import private_folder
from runtime.container.summary import summaries
from runtime.errors import ContainerError
from runtime.kernel.inotify import (
    IN_CREATE,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    inotify_add_watch,
    inotify_init1,
    read_events,
)
from runtime.record import dataclass
from runtime.root import Root
from runtime.supervisor import status
from runtime.supervisor.client import Event, Supervisor
from runtime.supervisor.status import Status


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened."""

    time: float
    """Seconds since the epoch."""
    type: str
    """``created``, ``removed``, and the types of runtime.supervisor.client.Event."""
    id: str
    name: str
    details: dict[str, Any]
    """``exitCode``, ``signal``, ``oomKilled`` of one that died; ``health`` and ``output``;
    ``exec``, ``command`` and ``exitCode`` of what was put into it; ``kills`` of ``oom``; ``error``
    of one that failed."""


def happenings(root: Root, *, timeout: float | None = None) -> Iterator[Happening]:
    """Yield what happens from now on, for *timeout* seconds or for ever.

    Starts a supervisor if there is none.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    told: queue.SimpleQueue[Happening | Exception] = queue.SimpleQueue()
    folders = _Folders(root)
    for source in (folders.changes(), _from_supervisor(root, folders.names)):
        threading.Thread(target=_feed, args=(source, told), daemon=True).start()
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            found = told.get(timeout=left)
        except queue.Empty:
            return
        if isinstance(found, Exception):
            raise found
        yield found


def _feed(source: Iterator[Happening], told: "queue.SimpleQueue[Happening | Exception]") -> None:
    try:
        for happening in source:
            told.put(happening)
    except Exception as error:
        told.put(error)  # it is the reader's


class _Folders:
    """The folders of the containers, watched from now on."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._containers = root.state / "containers"
        private_folder(self._containers)
        self._inotify = inotify_init1()
        mask = IN_CREATE | IN_MOVED_FROM
        self._all = inotify_add_watch(self._inotify, str(self._containers), mask)
        self._each: dict[int, str] = {}
        """Watch -> id: of each, for the config it gets, and for another name in that."""
        self.names = {each.id: each.name for each in summaries(root)}
        """Of all there are and were, by id."""
        for container_id in self.names:
            self._watch(container_id)

    def changes(self) -> Iterator[Happening]:
        """Yield who comes and goes."""
        while True:
            for watch, mask, name in read_events(self._inotify):
                if watch != self._all:
                    yield from self._look(self._each.get(watch, ""))
                elif mask & IN_CREATE:
                    self._watch(name)
                    yield from self._look(name)
                elif name in self.names:
                    yield Happening(time.time(), "removed", name, self.names[name], {})

    def _watch(self, container_id: str) -> None:
        with suppress(OSError):  # it has gone again
            folder = str(self._containers / container_id)
            self._each[inotify_add_watch(self._inotify, folder, IN_MOVED_TO)] = container_id

    def _look(self, container_id: str) -> Iterator[Happening]:
        with suppress(ContainerError):  # it has no config yet, or none any more
            found = read_config(self._root, container_id)
            is_new = found.id not in self.names
            self.names[found.id] = found.name
            if is_new:
                details = {"image": found.image, "command": list(found.spec.process.args)}
                yield Happening(found.created_at, "created", found.id, found.name, details)


def _from_supervisor(root: Root, names: Mapping[str, str]) -> Iterator[Happening]:
    known = status.read_all(root)
    for event in Supervisor(root).events():
        told = event.status
        found = [event]
        if event.type == "present":
            found = list(_missed(known.get(told.id), event))
        if event.type == "forgotten":
            known.pop(told.id, None)
            continue
        known[told.id] = told
        name = names.get(told.id, told.id)
        for each in found:
            yield Happening(each.time, each.type, told.id, name, _details(each))


def _missed(before: Status | None, present: Event) -> Iterator[Event]:
    """Yield what has happened to a container while nobody could tell, as far as it shows."""
    now = present.status
    ran = (before.pid, before.start_time) if before is not None and before.pid else None
    if ran == ((now.pid, now.start_time) if now.pid else None):
        return
    if ran:
        yield replace(present, type="died", time=now.finished_at or present.time)
    if now.pid:
        again = before is not None and before.token == now.token
        kind = "restarted" if again else "started"
        yield replace(present, type=kind, time=now.started_at or present.time)


def _details(event: Event) -> dict[str, Any]:
    told = event.status
    match event.type:
        case "died":
            found = {
                "exitCode": told.exit_code,
                "signal": told.signal,
                "oomKilled": told.oom_killed,
            }
            # Of one whose end was missed, it may be over.
            return {**found, "restarting": told.state in ("restarting", "running")}
        case "failed":
            return {"error": told.error}
        case "health":
            return {"health": told.health, "output": told.health_output}
        case "started" | "restarted":
            return {"pid": told.pid}
        case _:
            return dict(event.details)
