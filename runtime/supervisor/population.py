"""The containers a supervisor looks after, and who is told what becomes of them."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from runtime.errors import LaunchError, NotFoundError, StateError
from runtime.supervisor import record, status
from runtime.supervisor.container import Container, Reply
from runtime.supervisor.context import Context
from runtime.supervisor.errand import Errand
from runtime.supervisor.link import Link
from runtime.supervisor.loop import Loop
from runtime.supervisor.names import CONTAINER, Home
from runtime.supervisor.note import note
from runtime.supervisor.probe_process import ProbeProcess
from runtime.supervisor.request import LaunchRequest
from runtime.supervisor.server import Request
from runtime.supervisor.status import Status
from runtime.supervisor.traffic import Traffic

_ADOPT_AGAIN_S = 1.0
_LEFT_TO_CLIENT_S = 1.0
"""A client in the foreground removes its container itself, and knows what came of that."""
_REMEMBERED = 256


class Population:
    """All containers of one world."""

    def __init__(self, home: Home, loop: Loop, link: Link, changed: Callable[[], None]) -> None:
        """Call ``changed()`` whenever there may be nothing left to do for any of them."""
        self.context = Context(home, loop, link, self.emit)
        self.probes = ProbeProcess(loop)
        self.traffic = Traffic(self.context, changed)
        self._changed = changed
        self._remover = Errand(self.context, "runtime.container.remover", changed)
        self._containers: dict[str, Container] = {}
        self._removed: dict[str, Status] = {}
        """Those removed by themselves, for clients that come to wait() a little late."""
        self._listeners: list[Request] = []

    def __iter__(self) -> Iterator[Container]:
        return iter([container for _, container in sorted(self._containers.items())])

    def __len__(self) -> int:
        return len(self._containers)

    def __contains__(self, container_id: object) -> bool:
        return container_id in self._containers

    @property
    def active(self) -> bool:
        """Whether there is anything left to do for any of them."""
        errands = self._remover.active or self.traffic.active
        return errands or any(map(_is_active, self._containers.values()))

    @property
    def at_errands(self) -> bool:
        """Whether something that follows from a container's end is being done elsewhere now.

        What failed is due again, but to another supervisor that is so as well.
        """
        return self._remover.pressing or self.traffic.pressing

    def get(self, container_id: str) -> Container | None:
        """Return the container, if there is one of that id."""
        return self._containers.get(container_id)

    def find(self, container_id: str) -> Container:
        """Return the container.

        Raises:
            NotFoundError: there is none.
        """
        if container_id not in self._containers:
            raise NotFoundError(f"no container {container_id}")
        return self._containers[container_id]

    def reach(self, container_id: str) -> Container:
        """Return a container that can be acted on: adopted, if need be now.

        Raises:
            NotFoundError: there is none.
            StateError: it cannot be adopted yet.
        """
        container = self.find(container_id)
        if container.orphaned:
            try:
                container.adopt()
            except OSError as error:
                raise StateError(f"cannot take over {container_id} yet: {error}") from error
        return container

    def removed(self, container_id: str) -> Status | None:
        """Return how a container ended that was removed by itself a while ago."""
        return self._removed.get(container_id)

    def launch(self, wanted: LaunchRequest, streams: Mapping[str, int], reply: Reply) -> None:
        """Start a container, or join the launch of it that is under way.

        Raises:
            StateError: it runs, and was asked for by somebody else.
            LaunchError: its folder or log cannot be made.
        """
        existing = self._containers.get(wanted.id)
        if existing is not None:
            self.reach(wanted.id)
            # Asked again because the answer was lost: it shall not run twice.
            ran = existing.status.started_at is not None
            if wanted.token == existing.status.token != "" and (ran or not existing.status.ended):
                existing.follow(streams)
                existing.join_launch(reply)
                return
            if existing.active:
                raise StateError(f"cannot launch {wanted.id}: it is {existing.status.state}")
        resting = existing is not None and existing.status.resting and wanted.balanced
        known = Status(id=wanted.id, token=wanted.token, resting=resting)
        container = Container(self.context, self.probes, wanted, known)
        self._containers[wanted.id] = container
        self._removed.pop(wanted.id, None)
        try:
            container.follow(streams)
            container.launch(reply, stdin=streams.get("stdin"))
        except OSError as error:
            del self._containers[wanted.id]
            with suppress(OSError):
                container.remove_files()
            raise LaunchError(f"cannot launch {wanted.id}: {error}") from error

    def forget(self, container_id: str) -> None:
        """Know nothing of an ended container any more. Idempotent.

        Raises:
            StateError: it has not ended.
        """
        if container_id not in self._containers:
            return
        container = self.reach(container_id)
        if not container.status.ended:
            raise StateError(f"cannot forget {container_id}: it is {container.status.state}")
        self._remove(container)

    # -- news

    def listen(self, asked: Request) -> None:
        """Tell *asked* of all there are, and from now on what becomes of them."""
        for container in self:
            asked.event(_event("present", container.status, {}))
        self._listeners.append(asked)
        asked.connection.on_close.append(lambda: self._listeners.remove(asked))

    def emit(self, kind: str, told: Status, details: dict[str, Any]) -> None:
        """Tell whoever listens what has become of a container, and do what follows from it."""
        for listener in tuple(self._listeners):
            listener.event(_event(kind, told, details))
        self.traffic.consider(told)
        if told.ended:
            container = self._containers.get(told.id)
            if container is not None and container.request.auto_remove:
                self.context.loop.call_later(0, partial(self._forget_when_drained, container))
            self.context.loop.call_later(0, self._changed)

    def _forget_when_drained(self, container: Container) -> None:
        name = container.request.id
        if self._containers.get(name) is not container or not container.status.ended:
            return
        if container.active:
            self.context.loop.call_later(
                _ADOPT_AGAIN_S, partial(self._forget_when_drained, container)
            )
        else:
            self._remove(container)
            self._remover.want(name, delay_s=_LEFT_TO_CLIENT_S)
            self._removed[name] = container.status
            while len(self._removed) > _REMEMBERED:
                del self._removed[next(iter(self._removed))]

    def _remove(self, container: Container) -> None:
        container.remove_files()
        del self._containers[container.request.id]
        self.emit("forgotten", container.status, {})
        self.traffic.forget(container.request.id)

    # -- after a crash

    def adopt(self) -> None:
        """Go on with what a supervisor that was killed, or another version, has left."""
        home = self.context.home
        for name in sorted(os.listdir(home.containers)) if os.path.isdir(home.containers) else ():
            run_folder = home.run_folder(name)
            known = status.read_recorded(run_folder)
            try:
                wanted = record.read_request(run_folder)
            except (TypeError, AttributeError) as error:
                note(f"cannot look after {name}, its {record.LAUNCH_FILE}: {error}")
                continue
            if known is not None and wanted is not None:
                container = Container(self.context, self.probes, wanted, known)
                self._containers[name] = container
                self._adopt_one(container)
                self.traffic.adopt(container.status, balanced=wanted.balanced)
            elif known is not None:
                # Cut off before the request was written, or lost with the power: nothing runs.
                os.unlink(os.path.join(run_folder, status.FILE))

    def _adopt_one(self, container: Container) -> None:
        try:
            container.adopt()
        except Exception as error:
            # Its log cannot be opened now, or its record says what nobody can do. The others must
            # not suffer from that.
            note(f"cannot adopt {container.request.id} yet: {error}")
            self.context.loop.call_later(_ADOPT_AGAIN_S, partial(self._adopt_late, container))

    def _adopt_late(self, container: Container) -> None:
        if container.orphaned:  # nobody has asked for it meanwhile
            self._adopt_one(container)
            self._changed()

    def keeper_says(self, name: str, code: int) -> None:
        """Take the keeper's word for how the process of a container ended."""
        container = self._containers.get(name.removeprefix(CONTAINER))
        if container is not None:
            container.keeper_says(code)


def _is_active(container: Container) -> bool:
    return container.active


def _event(kind: str, told: Status, details: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "time": time.time(), "status": status.encode(told), **details}
