"""The supervisor: who is there, and what may be asked of it.

It parents all containers of one world, in one thread that never waits. All it knows that must
outlive it is in the containers' run folders and with its keeper; so it ends as soon as it has
nothing to do, and is started again when there is.
"""

import gc
import os
import re
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from signal import SIGKILL
from typing import Any, TypeVar

from runtime.errors import ContainerError, LaunchError, NotFoundError, StateError, SupervisorError
from runtime.kernel.program import Program
from runtime.supervisor import codecopy, record, request, status
from runtime.supervisor.container import LAUNCH_TIMEOUT_S, Container
from runtime.supervisor.context import Context
from runtime.supervisor.dns import DnsServer
from runtime.supervisor.errand import Errand
from runtime.supervisor.execution import Executions
from runtime.supervisor.interpreter import Launched
from runtime.supervisor.link import Link
from runtime.supervisor.loop import Loop, Timer
from runtime.supervisor.names import CONTAINER, EXEC, PROBE, SOCKET, Code, Home, own_code
from runtime.supervisor.note import note
from runtime.supervisor.probe_process import ProbeProcess
from runtime.supervisor.protocol import VERSION
from runtime.supervisor.request import ExecRequest, LaunchRequest
from runtime.supervisor.server import Request, Server
from runtime.supervisor.status import Status
from runtime.supervisor.traffic import Traffic
from runtime.supervisor.upgrade import Upgrade, Why
from runtime.version import VERSION as CODE_VERSION

T = TypeVar("T")

IDLE_S = 1.0
_ADOPT_AGAIN_S = 1.0
_LEFT_TO_CLIENT_S = 1.0
"""A client in the foreground removes its container itself, and knows what came of that."""
_REMEMBERED = 256
_LAST_SIGNAL = 64
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


class Supervisor:
    """All containers of one world."""

    def __init__(self, home: Home, listener: socket.socket, link: Link) -> None:
        """Adopt what is there, then listen."""
        self._home = home
        self._link = link
        self._loop = Loop()
        self._context = Context(home, self._loop, link, self._emit)
        self._probes = ProbeProcess(self._loop)
        self._executions = Executions(self._context)
        self._dns = DnsServer(self._context)
        self._remover = Errand(self._context, "runtime.container.remover", self._consider_ending)
        self._traffic = Traffic(self._context, self._consider_ending)
        self._containers: dict[str, Container] = {}
        self._removed: dict[str, Status] = {}
        """Those removed by themselves, for clients that come to wait() a little late."""
        self._listeners: list[Request] = []
        self._idle_timer: Timer | None = None
        self._upgrading = False
        self._put_off_until = 0.0
        self._broken: dict[str, str] = {}
        """Versions that have shown to be, by folder, and how: whoever comes next need not try."""
        self._patience = IDLE_S
        folder = own_code().folder
        self._code = {
            "version": CODE_VERSION,
            "origin": codecopy.origin(folder),
            "fingerprint": codecopy.name_of(folder),
        }
        self._server = Server(
            self._loop,
            listener,
            handle=self._handle,
            left=self._consider_ending,
            facts=self._code,
        )
        self._operations: dict[str, Callable[[Request], None]] = {
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
            "dns": self._serve_names,
            "ping": self._ping,
            "upgrade": self._upgrade,
            "shutdown": self._shutdown,
        }
        self._adopt()

    def run(self) -> None:
        """Serve until there is nothing to do."""
        self._link.watch(self._loop, self._keeper_says)
        self._link.settled()
        # What is here now stays: no collection, in here or in a forked child, shall touch it.
        gc.collect()
        gc.freeze()
        self._consider_ending()
        self._loop.run()

    # -- adoption and end

    def _adopt(self) -> None:
        folder = self._home.containers
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            run_folder = self._home.run_folder(name)
            known = status.read_recorded(run_folder)
            wanted = record.read_request(run_folder)
            if known is not None and wanted is not None:
                container = Container(self._context, self._probes, wanted, known)
                self._containers[name] = container
                self._adopt_one(container)
                self._traffic.adopt(container.status, balanced=wanted.balanced)
            elif known is not None:
                # Cut off before the request was written, or lost with the power: nothing runs.
                os.unlink(os.path.join(run_folder, status.FILE))
        self._executions.adopt()
        self._dns.adopt()
        for name in (*self._link.exits, *self._link.unborn):
            ours = name.startswith(EXEC) or name.removeprefix(CONTAINER) in self._containers
            if name in self._link.unborn or not ours:
                self._link.gone(name)

    def _adopt_one(self, container: Container) -> None:
        try:
            container.adopt()
        except OSError as error:
            # Its log cannot be opened now. The others must not suffer from that.
            note(f"cannot adopt {container.request.id} yet: {error}")
            self._loop.call_later(_ADOPT_AGAIN_S, partial(self._adopt_late, container))

    def _adopt_late(self, container: Container) -> None:
        if container.orphaned:  # nobody has asked for it meanwhile
            self._adopt_one(container)
            self._consider_ending()

    def _keeper_says(self, name: str, code: int) -> None:
        if name.startswith(CONTAINER):
            container = self._containers.get(name.removeprefix(CONTAINER))
            if container is not None:
                container.keeper_says(code)
        elif name.startswith(EXEC):
            self._executions.keeper_says(name.removeprefix(EXEC), code)
        elif name.startswith(PROBE):
            self._link.gone(name)

    @property
    def _idle(self) -> bool:
        return not (
            self._server.connections
            or self._executions.active
            or self._remover.active
            or self._traffic.active
            or any(container.active for container in self._containers.values())
        )

    def _consider_ending(self) -> None:
        """To be called whenever something has ended: end after a while of nothing."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        if self._idle:
            self._idle_timer = self._loop.call_later(self._patience, self._end_if_idle)

    def _end_if_idle(self) -> None:
        if not self._idle or self._server.accept():
            self._consider_ending()
            return
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(self._home.run, SOCKET))
        # Whoever has connected just now is hung up on, and starts the next one.
        self._server.close()
        self._dns.forget()
        self._probes.close()
        self._link.bye()
        self._loop.stop()

    def _emit(self, kind: str, told: Status, details: dict[str, Any]) -> None:
        for listener in tuple(self._listeners):
            listener.event(_event(kind, told, details))
        self._traffic.consider(told)
        if told.ended:
            container = self._containers.get(told.id)
            if container is not None and container.request.auto_remove:
                self._loop.call_later(0, partial(self._forget_when_drained, container))
            self._loop.call_later(0, self._consider_ending)

    def _forget_when_drained(self, container: Container) -> None:
        name = container.request.id
        if self._containers.get(name) is not container or not container.status.ended:
            return
        if container.active:
            self._loop.call_later(_ADOPT_AGAIN_S, partial(self._forget_when_drained, container))
        else:
            self._remove(container)
            self._remover.want(name, delay_s=_LEFT_TO_CLIENT_S)
            self._removed[name] = container.status
            while len(self._removed) > _REMEMBERED:
                del self._removed[next(iter(self._removed))]

    def _remove(self, container: Container) -> None:
        container.remove_files()
        del self._containers[container.request.id]
        self._emit("forgotten", container.status, {})
        self._traffic.forget(container.request.id)

    # -- requests

    def _handle(self, asked: Request) -> None:
        try:
            operation = self._operations.get(asked.op)
            if operation is None:
                raise SupervisorError(f"no operation {asked.op!r}")
            operation(asked)
        except ContainerError as error:
            asked.refuse(error)
        except (OSError, ValueError) as error:
            # One client's mistake, or the host's; the containers of the others must not suffer.
            note(f"{asked.op}: {type(error).__name__}: {error}")
            asked.refuse(SupervisorError(f"{asked.op}: {error}"))
        finally:
            asked.close_fds()

    def _find(self, asked: Request) -> Container:
        name = asked.text("id")
        if name not in self._containers:
            raise NotFoundError(f"no container {name}")
        return self._containers[name]

    def _reach(self, container: Container) -> Container:
        """Return a container that can be acted on: adopted, if need be now."""
        if container.orphaned:
            try:
                container.adopt()
            except OSError as error:
                raise StateError(f"cannot take over {container.request.id} yet: {error}") from error
        return container

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
        existing = self._containers.get(wanted.id)
        if existing is not None:
            self._reach(existing)
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
        container = Container(self._context, self._probes, wanted, known)
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

    def _stop(self, asked: Request) -> None:
        container = self._reach(self._find(asked))
        stop = container.request.stop
        container.stop(
            lambda ended: asked.answer({"status": status.encode(ended)}),
            asked.refuse,
            number=_signal(asked, stop.signal),
            grace=float(asked.number("grace", stop.grace)),
            resumes=asked.message.get("resumes") is True,
        )
        self._traffic.consider(container.status)

    def _spare(self, asked: Request) -> None:
        container = self._reach(self._find(asked))

        def left() -> None:
            if self._containers.get(container.request.id) is container:
                container.spare_no_longer()
                self._traffic.consider(container.status)

        container.spare()
        self._traffic.consider(container.status)
        asked.connection.on_close.append(left)
        asked.answer()

    def _pause(self, asked: Request) -> None:
        self._reach(self._find(asked)).pause()
        asked.answer()

    def _resume(self, asked: Request) -> None:
        self._reach(self._find(asked)).resume()
        asked.answer()

    def _kill(self, asked: Request) -> None:
        container = self._reach(self._find(asked))
        container.kill(_signal(asked, SIGKILL))
        self._traffic.consider(container.status)
        asked.answer()

    def _wait(self, asked: Request) -> None:
        gone = self._removed.get(asked.text("id"))
        if gone is not None:
            asked.answer({"status": status.encode(gone)})
            return
        cancel = self._find(asked).wait(
            lambda ended: asked.answer({"status": status.encode(ended)})
        )
        asked.connection.on_close.append(cancel)

    def _exec(self, asked: Request) -> None:
        wanted = _decode(ExecRequest, asked)
        container = self._reach(self._find(asked))
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
            self._emit("exec", container.status, details)

        def ended(name: str, code: int | None) -> None:
            self._emit("execEnded", container.status, {"exec": name, "exitCode": code})
            self._loop.call_later(0, self._consider_ending)

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
        every = [status.encode(c.status) for _, c in sorted(self._containers.items())]
        asked.answer({"containers": every})

    def _status(self, asked: Request) -> None:
        asked.answer({"status": status.encode(self._find(asked).status)})

    def _configure(self, asked: Request) -> None:
        container = self._find(asked)
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
        container = self._containers.get(asked.text("id"))
        if container is None:
            asked.answer()
            return
        if not self._reach(container).status.ended:
            state = container.status.state
            raise StateError(f"cannot forget {container.request.id}: it is {state}")
        self._remove(container)
        asked.answer()

    def _events(self, asked: Request) -> None:
        asked.answer()
        for _, container in sorted(self._containers.items()):
            asked.event(_event("present", container.status, {}))
        self._listeners.append(asked)
        asked.connection.on_close.append(lambda: self._listeners.remove(asked))

    def _attach(self, asked: Request) -> None:
        container = self._find(asked)
        if container.terminal is None:
            state = container.status.state
            raise StateError(f"cannot attach to {container.request.id}: no terminal, {state}")
        asked.answer(fds=(os.dup(container.terminal),))

    def _serve_names(self, asked: Request) -> None:
        self._dns.close(asked.texts("close"))
        self._dns.listen(asked.texts("listen"))
        asked.answer({"addresses": list(self._dns.addresses)})

    def _ping(self, asked: Request) -> None:
        asked.answer(
            {
                "protocol": VERSION,
                "pid": os.getpid(),
                "keeper": os.getppid(),
                "probes": self._probes.pid,
                "dns": self._dns.pid,
                "containers": len(self._containers),
                "folder": own_code().folder,
                **self._code,
            }
        )

    def _upgrade(self, asked: Request) -> None:
        if self._upgrading:
            raise SupervisorError("an upgrade is under way")
        if len(asked.fds) != 1:
            raise SupervisorError("upgrade takes one descriptor, the new version's interpreter")
        code = Code(asked.text("python"), asked.text("folder"))
        if code.folder in self._broken:
            raise SupervisorError(self._broken[code.folder])
        if time.monotonic() < self._put_off_until and not self._is_quiet():
            raise SupervisorError("no upgrade yet: what held up the last one is still under way")
        containers = {
            name: {"status": status.encode(c.status), "request": request.encode(c.request)}
            for name, c in self._containers.items()
        }

        def failed(error: ContainerError, why: Why) -> None:
            self._upgrading = False
            self._server.resume()
            if why is Why.BUSY:
                self._put_off_until = time.monotonic() + LAUNCH_TIMEOUT_S
            elif why is Why.BROKEN:
                self._broken[code.folder] = str(error)
            asked.refuse(error)

        Upgrade(
            self._context,
            code,
            os.dup(asked.fds[0]),
            state=containers,
            quiet=self._is_quiet,
            pause=self._server.pause,
            failed=failed,
        )
        self._upgrading = True

    def _is_quiet(self) -> bool:
        """Tell whether nothing is under way that would be cut off by our end."""
        return not (
            self._executions.starting
            or self._remover.active
            or self._traffic.active
            or any(container.starting for container in self._containers.values())
            or any(not connection.asked for connection in self._server.connections)
        )

    def _shutdown(self, asked: Request) -> None:
        active = [c for c in self._containers.values() if not c.status.ended]
        if active and not asked.message.get("kill"):
            raise StateError(f"cannot shut down: {len(active)} containers are running")
        left = {c.request.id for c in active}
        self._patience = 0.0

        def ended(told: Status) -> None:
            left.discard(told.id)
            if not left:
                asked.answer({"keeper": os.getppid()})

        for container in active:
            container.stop(ended, asked.refuse, number=SIGKILL, grace=0.0)
        if not active:
            asked.answer({"keeper": os.getppid()})


def _arguments(wanted: ExecRequest) -> list[str]:
    """Return what is to be run, which the last operation of a program tells."""
    _, arguments, _ = wanted.program["operations"][-1]
    return list(arguments)


def _signal(asked: Request, default: int) -> int:
    number = int(asked.number("signal", default))
    if not 0 < number <= _LAST_SIGNAL:
        raise SupervisorError(f"{asked.op}: {number} is no signal")
    return number


def _event(kind: str, told: Status, details: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "time": time.time(), "status": status.encode(told), **details}


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
