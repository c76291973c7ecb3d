"""What clients may ask of a supervisor about its containers, and what runs in them beside."""

import os
import re
from collections.abc import Callable
from signal import SIGKILL
from typing import Any, TypeVar

from runtime.errors import ContainerError, LaunchError, StateError, SupervisorError
from runtime.kernel.program import Program
from runtime.supervisor import request, status
from runtime.supervisor.container import Container
from runtime.supervisor.execution import Executions
from runtime.supervisor.launch import Launched
from runtime.supervisor.population import Population
from runtime.supervisor.request import ExecRequest, LaunchRequest
from runtime.supervisor.server import Request

T = TypeVar("T")

_LAST_SIGNAL = 64
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


class Service:
    """Answers requests. Methods return at once; what takes longer is answered later."""

    def __init__(
        self,
        containers: Population,
        executions: Executions,
        changed: Callable[[], None],
    ) -> None:
        """Call ``changed()`` whenever there may be nothing left to do."""
        self._containers = containers
        self._executions = executions
        self._changed = changed
        self.operations: dict[str, Callable[[Request], None]] = {
            "launch": self._launch,
            "spare": self._spare,
            "pause": self._pause,
            "resume": self._resume,
            "stop": self._stop,
            "kill": self._kill,
            "wait": self._wait,
            "exec": self._exec,
            "execWait": self._exec_wait,
            "execKill": self._exec_kill,
            "list": self._list,
            "status": self._status,
            "configure": self._configure,
            "forget": self._forget,
            "events": self._events,
            "attach": self._attach,
        }

    def _launch(self, asked: Request) -> None:
        wanted = _decode(LaunchRequest, asked)
        if not _ID.fullmatch(wanted.id):
            raise SupervisorError(f"not a container id: {wanted.id!r}")

        def reply(container: Container, error: LaunchError | None) -> None:
            if error is not None:
                asked.refuse(error)
            else:
                pid = container.status.pid
                asked.answer({"pid": pid, "warnings": list(container.warnings)})

        streams = dict(zip(asked.texts("streams"), asked.fds, strict=False))
        self._containers.launch(wanted, streams, reply)

    def _stop(self, asked: Request) -> None:
        container = self._containers.reach(asked.text("id"))
        stop = container.request.stop
        container.stop(
            lambda ended: asked.answer({"status": status.encode(ended)}),
            asked.refuse,
            number=_signal(asked, stop.signal),
            grace=float(asked.number("grace", stop.grace)),
            resumes=asked.message.get("resumes") is True,
        )
        self._containers.traffic.consider(container.status)

    def _spare(self, asked: Request) -> None:
        container = self._containers.reach(asked.text("id"))

        def left() -> None:
            if self._containers.get(container.request.id) is container:
                container.spare_no_longer()
                self._containers.traffic.consider(container.status)

        container.spare()
        self._containers.traffic.consider(container.status)
        asked.connection.on_close.append(left)
        asked.answer()

    def _pause(self, asked: Request) -> None:
        self._containers.reach(asked.text("id")).pause()
        asked.answer()

    def _resume(self, asked: Request) -> None:
        self._containers.reach(asked.text("id")).resume()
        asked.answer()

    def _kill(self, asked: Request) -> None:
        container = self._containers.reach(asked.text("id"))
        container.kill(_signal(asked, SIGKILL))
        self._containers.traffic.consider(container.status)
        asked.answer()

    def _wait(self, asked: Request) -> None:
        gone = self._containers.removed(asked.text("id"))
        if gone is not None:
            asked.answer({"status": status.encode(gone)})
            return
        cancel = self._containers.find(asked.text("id")).wait(
            lambda ended: asked.answer({"status": status.encode(ended)})
        )
        asked.connection.on_close.append(cancel)

    def _exec(self, asked: Request) -> None:
        wanted = _decode(ExecRequest, asked)
        container = self._containers.reach(asked.text("id"))
        if container.process is None:
            state = container.status.state
            raise StateError(f"cannot exec in {wanted.id}: it is {state}")
        if len(asked.fds) not in (0, 3):
            raise SupervisorError(f"exec takes three descriptors or none, not {len(asked.fds)}")
        stdin, stdout, stderr = asked.fds or (None, None, None)

        def started(name: str, launched: Launched) -> None:
            if wanted.attached:
                self._executions.attach(name, asked.connection)
            fds = () if launched.terminal is None else (launched.terminal,)
            result = {"exec": name, "pid": launched.pid, "warnings": list(launched.warnings)}
            asked.answer(result, fds)
            details = {"exec": name, "pid": launched.pid, "command": _arguments(wanted)}
            self._containers.emit("exec", container.status, details)

        def ended(name: str, code: int | None) -> None:
            self._containers.emit("execEnded", container.status, {"exec": name, "exitCode": code})
            self._containers.context.loop.call_later(0, self._changed)

        self._executions.start(
            wanted,
            container.process.pidfd,
            (stdin, stdout, stderr),
            started=started,
            failed=asked.refuse,
            ended=ended,
        )

    def _exec_wait(self, asked: Request) -> None:
        name = asked.text("exec")
        cancel = self._executions.wait(name, lambda code: asked.answer({"exitCode": code}))
        asked.connection.on_close.append(cancel)
        if asked.message.get("attached"):
            self._executions.attach(name, asked.connection)

    def _exec_kill(self, asked: Request) -> None:
        self._executions.signal(asked.text("exec"), int(asked.number("signal", 9)))
        asked.answer()

    def _list(self, asked: Request) -> None:
        every = [status.encode(container.status) for container in self._containers]
        asked.answer({"containers": every})

    def _status(self, asked: Request) -> None:
        asked.answer({"status": status.encode(self._containers.find(asked.text("id")).status)})

    def _configure(self, asked: Request) -> None:
        container = self._containers.find(asked.text("id"))
        changes: dict[str, Any] = {
            key: asked.message[key]
            for key in ("restart", "health", "logs", "stop", "balanced")
            if key in asked.message
        }
        try:
            changed = request.decode(
                LaunchRequest, {**request.encode(container.request), **changes}
            )
        except TypeError as error:
            raise SupervisorError(f"configure: {error}") from error
        try:
            container.configure(changed)
        except OSError as error:
            raise ContainerError(f"cannot configure {changed.id}: {error}") from error
        asked.answer()

    def _forget(self, asked: Request) -> None:
        self._containers.forget(asked.text("id"))
        asked.answer()

    def _events(self, asked: Request) -> None:
        asked.answer()
        self._containers.listen(asked)

    def _attach(self, asked: Request) -> None:
        container = self._containers.find(asked.text("id"))
        if container.terminal is None:
            state = container.status.state
            raise StateError(f"cannot attach to {container.request.id}: no terminal, {state}")
        asked.answer(fds=(os.dup(container.terminal),))


def _arguments(wanted: ExecRequest) -> list[str]:
    """Return what is to be run, which the last operation of a program tells."""
    _, arguments, _ = wanted.program["operations"][-1]
    return list(arguments)


def _signal(asked: Request, default: int) -> int:
    number = int(asked.number("signal", default))
    if not 0 < number <= _LAST_SIGNAL:
        raise SupervisorError(f"{asked.op}: {number} is no signal")
    return number


def _decode(cls: type[T], asked: Request) -> T:
    """Return the request proper, its program looked at too."""
    data = asked.message.get("request")
    if not isinstance(data, dict):
        raise SupervisorError(f"{asked.op}: there is no request")
    try:
        Program.from_json(data["program"])
        asked.message["id"] = data["id"]
        return request.decode(cls, data)
    except (KeyError, TypeError) as error:
        raise SupervisorError(f"{asked.op}: {error}") from error
