"""What can be asked of the supervisor, as method calls.

Each call has a connection of its own, so one Supervisor may be used by several threads. A call
that loses its connection is made again: a supervisor that was killed has a successor within
milliseconds, and all requests but ``exec`` are such that twice is once.
"""

import errno
import os
import signal as signals
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from runtime.errors import NotFoundError, StateError, SupervisorError
from runtime.kernel.pidfd import pidfd_open
from runtime.kernel.readable import wait_readable
from runtime.kernel.selfexe import sealed_interpreter
from runtime.kernel.terminal import resize_terminal
from runtime.record import dataclass
from runtime.root import Root
from runtime.supervisor import codecopy, request, start, status
from runtime.supervisor.names import Code, own_code
from runtime.supervisor.protocol import (
    Decoder,
    Message,
    error_from_json,
    receive,
    send,
)
from runtime.supervisor.request import ExecRequest, Health, LaunchRequest, Logs, Restart, Stop
from runtime.supervisor.status import Status
from runtime.version import is_older

ANSWER_S = 120.0
"""How long an answer that depends on nobody else may take; launches are given up before that."""
_STOP_MORE_S = ANSWER_S + 10.0
"""After the grace: for SIGKILL to end it, and the answer to come."""
_TRIES = 16
"""In case the request itself is what kills the supervisor."""

_LOOK_S = 0.01

_SEEN: set[str] = set()
"""Worlds whose supervisor's version this process has looked at: it is upgraded once, if at all."""

_UNCHANGED: Any = object()


@dataclass(frozen=True, slots=True)
class Launched:
    """A container that was started."""

    pid: int
    """0 if it has ended already."""
    warnings: tuple[str, ...] = ()
    """What the host could not give, in words."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a container."""

    type: str
    """``present`` (at the beginning: one for each there is), ``started``, ``restarted``,
    ``failed`` (could not be launched), ``died``, ``oom``, ``health``, ``exec``, ``execEnded``,
    ``paused``, ``resumed``, ``forgotten``."""
    time: float
    status: Status
    """As it was right after."""
    details: dict[str, Any]


class Exec:
    """A process that was put into a container. Close it, or use it as a context manager."""

    def __init__(
        self,
        supervisor: "Supervisor",
        name: str,
        pid: int,
        terminal: int | None,
        line: socket.socket | None,
    ) -> None:
        self._supervisor = supervisor
        self._name = name
        self._line = line
        """Kept open by an attached one: that it is lost tells that we are gone."""
        self.pid = pid
        """In the host's pid namespace."""
        self.terminal = terminal
        """Master of its terminal, blocking; ours alone, so closing it hangs the process up."""

    def __enter__(self) -> "Exec":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def wait(self, timeout: float | None = None) -> int | None:
        """Return the exit code, 128 + n for signal n, None if nobody can tell. Once only.

        Raises:
            TimeoutError: it still runs after *timeout* seconds; wait() may be called again.
        """
        asked = {"exec": self._name, "attached": self._line is not None}
        answer, _fds = self._supervisor.talk("execWait", asked, timeout=timeout)
        code: int | None = answer["exitCode"]
        return code

    def kill(self, signal: int = signals.SIGKILL) -> None:
        """Send a signal to its process group; does nothing if it has ended."""
        self._supervisor.ask("execKill", {"exec": self._name, "signal": int(signal)})

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of its terminal.

        Raises:
            StateError: it has none.
        """
        if self.terminal is None:
            raise StateError(f"exec {self._name} has no terminal")
        resize_terminal(self.terminal, rows=rows, columns=columns)

    def close(self) -> None:
        """Close the terminal, if there is one, and let go: an attached one is hung up on."""
        if self.terminal is not None:
            os.close(self.terminal)
            self.terminal = None
        if self._line is not None:
            self._line.close()
            self._line = None


class Supervisor:
    """The supervisor of one world. Making this touches nothing."""

    def __init__(self, root: Root, *, start: bool = True) -> None:
        """With *start*, calls start a supervisor if there is none; else: NotFoundError."""
        self._root = root
        self._start = start

    def launch(
        self,
        wanted: LaunchRequest,
        *,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> Launched:
        """Start a container and return once its program runs.

        *stdin* is its standard input (for the first start only), else that is /dev/null. *stdout*
        and *stderr*, write ends of pipes, get what it writes, as its log does, until it has ended
        for good; they hold it up when they are full. All three stay the caller's. A container of
        that id that has ended is replaced.

        Raises:
            StateError: it runs, or waits to be started again.
            LaunchError: it could not be started; its status says so too. Nothing is left.
        """
        if not wanted.token:
            wanted = replace(wanted, token=os.urandom(8).hex())
        given = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
        streams = {name: fd for name, fd in given.items() if fd is not None}
        message = {"request": request.encode(wanted), "streams": [*streams]}
        answer, _fds = self.talk("launch", message, fds=[*streams.values()], timeout=ANSWER_S)
        return Launched(answer["pid"], tuple(answer["warnings"]))

    @contextmanager
    def spare(self, id: str) -> Iterator[None]:
        """Have a balanced container count as ending while this is open, before it is stopped.

        So nobody who looks meanwhile brings its traffic back. If this process dies first, that
        is over.

        Raises:
            NotFoundError: there is no such container.
            SupervisorError: the supervisor is of a version before this, or cannot be reached.
        """
        with self._connect() as connection:
            try:
                _first_answer(connection, "spare", {"id": id}, (), _deadline(ANSWER_S))
            except (ConnectionError, TimeoutError) as error:
                raise SupervisorError("no answer to spare") from error
            yield

    def stop(
        self,
        id: str,
        *,
        signal: int | None = None,
        grace: float | None = None,
        resumes: bool = False,
    ) -> Status:
        """Ask a container to end and return when it has; idempotent.

        *signal* and *grace* (seconds until SIGKILL) default to the container's. No policy starts
        it again; with *resumes* the next boot of the host is told to.

        Raises:
            NotFoundError: there is no such container.
            StateError: not even SIGKILL ends it, ten seconds after that.
            SupervisorError: it does not say; with *grace* only, else it is waited for.
        """
        number = None if signal is None else int(signal)
        asked = {"id": id, "signal": number, "grace": grace, "resumes": resumes}
        # How long the container's own grace is, the supervisor knows.
        patience = None if grace is None else grace + _STOP_MORE_S
        try:
            answer, _fds = self.talk("stop", asked, timeout=patience)
        except TimeoutError as error:
            raise SupervisorError("the supervisor does not answer whether it has ended") from error
        return status.decode(answer["status"])

    def kill(self, id: str, signal: int = signals.SIGKILL) -> None:
        """Send a signal to a container's first process; twice if the supervisor dies meanwhile.

        SIGKILL and its stop signal keep it from being started again, as stop() does.

        Raises:
            NotFoundError, StateError: there is no such container, or it does not run.
        """
        self.ask("kill", {"id": id, "signal": int(signal)})

    def pause(self, id: str) -> None:
        """Have a container's health not looked at, before it is made to stand still. Idempotent.

        Raises:
            NotFoundError, StateError: there is no such container, or it does not run.
        """
        self.ask("pause", {"id": id})

    def resume(self, id: str) -> None:
        """Have its health looked at again. Idempotent.

        Raises:
            NotFoundError: there is no such container.
        """
        self.ask("resume", {"id": id})

    def wait(self, id: str, timeout: float | None = None) -> int | None:
        """Return a container's exit code once it has ended for good, None if it is unknown.

        Raises as `await_end`.
        """
        return self.await_end(id, timeout).exit_code

    def await_end(self, id: str, timeout: float | None = None) -> Status:
        """Return a container's status once it has ended for good.

        Raises:
            NotFoundError: there is no such container.
            TimeoutError: it has not ended within *timeout* seconds.
        """
        answer, _fds = self.talk("wait", {"id": id}, timeout=timeout)
        return status.decode(answer["status"])

    def exec(self, wanted: ExecRequest, fds: tuple[int, int, int] | tuple[()] = ()) -> Exec:
        """Run one more process in a container; *fds* are its standard streams, still ours.

        With ``wanted.terminal`` there are no *fds*: talk to ``Exec.terminal``.

        Raises:
            NotFoundError, StateError: there is no such container, or it does not run.
            LaunchError: the process could not be started.
            SupervisorError: the supervisor was killed meanwhile; whether the process was started
                is not known, and if it was it is killed.
        """
        message = {"request": request.encode(wanted)}
        line = self._connect()
        try:
            answer, received = _first_answer(line, "exec", message, fds, _deadline(ANSWER_S))
        except ConnectionError as error:
            line.close()
            raise SupervisorError("the supervisor hung up on exec") from error
        except BaseException:
            line.close()
            raise
        if not wanted.attached:
            line.close()
        terminal = received[0] if received else None
        kept = line if wanted.attached else None
        return Exec(self, answer["exec"], answer["pid"], terminal, kept)

    def attach(self, id: str) -> int:
        """Return a duplicate of the master of a container's terminal, non-blocking.

        It is for writing and resizing; what the container writes is read from the log
        (logs.follow_chunks), for which the supervisor empties the terminal. The caller closes it.

        Raises:
            NotFoundError, StateError: there is no such container, or it has no terminal now.
        """
        _answer, fds = self.talk("attach", {"id": id}, timeout=ANSWER_S)
        return fds[0]

    def list(self) -> list[Status]:
        """Return the containers the supervisor knows, by id."""
        return [status.decode(data) for data in self.ask("list", {})["containers"]]

    def status(self, id: str) -> Status:
        """Return a container's status.

        Raises:
            NotFoundError: there is no such container.
        """
        return status.decode(self.ask("status", {"id": id})["status"])

    def configure(
        self,
        id: str,
        *,
        restart: Restart = _UNCHANGED,
        health: Health | None = _UNCHANGED,
        logs: Logs = _UNCHANGED,
        stop: Stop = _UNCHANGED,
        balanced: bool = _UNCHANGED,
    ) -> None:
        """Change a container's settings while it runs; those not given stay.

        Raises:
            NotFoundError: there is no such container.
        """
        given = {
            "restart": restart,
            "health": health,
            "logs": logs,
            "stop": stop,
            "balanced": balanced,
        }
        changes = {
            key: value if value is None or isinstance(value, bool) else request.encode(value)
            for key, value in given.items()
            if value is not _UNCHANGED
        }
        self.ask("configure", {"id": id, **changes})

    def forget(self, id: str) -> None:
        """Drop an ended container and its files in the run folder; the log stays. Idempotent.

        Raises:
            StateError: it has not ended.
            NotFoundError: there is no supervisor, and none may be started.
        """
        self.ask("forget", {"id": id})

    def events(self, *, timeout: float | None = None) -> Iterator[Event]:
        """Yield a ``present`` event for each container, then what happens, as it happens.

        After a supervisor was killed, the successor's ``present`` events come again. Ends only
        by being closed, or:

        Raises:
            TimeoutError: *timeout* seconds after the call.
        """
        deadline = _deadline(timeout)
        while True:
            with self._connect() as connection:
                messages = _exchange(connection, {"n": 1, "op": "events"}, (), deadline)
                with suppress(ConnectionError):
                    for message, _received in messages:
                        if "event" in message:
                            yield _event(message["event"])

    def dns(self, addresses: Sequence[str], *, close: Sequence[str] = ()) -> None:
        """Have names served on port 53 of *addresses*, and no more on those to *close*.

        Idempotent; what was asked for before stays. The addresses need not exist yet.

        Raises:
            NetworkError: another process has that port, or nobody can serve them yet.
        """
        self.ask("dns", {"listen": [*addresses], "close": [*close]})

    def ping(self) -> dict[str, Any]:
        """Return pids (``pid``, ``keeper``, ``probes``, ``dns``; 0: none) and other facts.

        These are the version of the ``protocol``, how many ``containers`` are known, and of its
        code the ``version``, the ``folder``, and the ``origin`` and ``fingerprint`` of what was
        copied there.
        """
        return self.ask("ping", {})

    def upgrade(self, code: Code | None = None) -> None:
        """Have the supervisor and its keeper replaced by those of *code*, by default our own.

        Nothing is lost: containers, terminals, logs and exit codes are handed over. Returns when
        the new ones serve.

        Raises:
            SupervisorError: the new version cannot go on with what is there, or did not get to
                serve, or the old one is too old to hand over. The old one serves on.
        """
        before = self.ping()
        origin = (code or own_code()).folder
        try:
            code = codecopy.keep(os.fspath(self._root.run), code or own_code())
            if (why := codecopy.condemned(code.folder)) is not None:
                raise SupervisorError(why)
            interpreter = sealed_interpreter(code.python)
        except OSError as error:
            raise SupervisorError(f"no upgrade to the version in {origin}: {error}") from error
        wanted = {"python": code.python, "folder": code.folder}
        try:
            with self._connect() as connection:
                _first_answer(connection, "upgrade", wanted, (interpreter,), _deadline(ANSWER_S))
        except ConnectionError:  # it is gone: its successor is on trial
            deadline = time.monotonic() + ANSWER_S
            while (now := self.ping())["folder"] != code.folder or now["pid"] == before["pid"]:
                if now["folder"] == before["folder"] or time.monotonic() > deadline:
                    text = f"the version in {origin} did not get to serve, the old one does"
                    raise SupervisorError(text) from None
                time.sleep(_LOOK_S)
        except TimeoutError as error:
            raise SupervisorError("no answer to upgrade") from error
        finally:
            os.close(interpreter)

    def shutdown(self, *, kill: bool = False) -> None:
        """End the supervisor and its keeper, and return when they are gone; idempotent.

        With *kill*, its containers are killed first.

        Raises:
            StateError: containers run, and *kill* is not set.
        """
        # Containers may run without one, since it was killed with its keeper.
        alone = kill and any(not told.ended for told in status.read_all(self._root).values())
        try:
            answer, _fds = Supervisor(self._root, start=alone).talk("shutdown", {"kill": kill})
        except NotFoundError:
            # One may be just ending by itself.
            start.wait_gone(self._root)
            return
        try:
            keeper = pidfd_open(answer["keeper"])
        except ProcessLookupError:
            return
        try:
            wait_readable(keeper, ANSWER_S)
        finally:
            os.close(keeper)

    def ask(self, op: str, members: Message) -> Message:
        """Return the answer to one request that waits for nothing but the supervisor.

        Raises:
            NotFoundError: there is no supervisor, and none may be started.
            SupervisorError: it cannot be reached or does not answer.
            ContainerError: as it says.
        """
        try:
            answer, _fds = self.talk(op, members, timeout=ANSWER_S)
        except TimeoutError as error:
            raise SupervisorError(f"no answer to {op} within {ANSWER_S:g} s") from error
        return answer

    def talk(
        self,
        op: str,
        members: Message,
        *,
        fds: Sequence[int] = (),
        timeout: float | None = None,
    ) -> tuple[Message, tuple[int, ...]]:
        """Return the answer to one request, and its descriptors, now the caller's.

        Raises as ask(), and:

        Raises:
            TimeoutError: there was none within *timeout* seconds.
        """
        deadline = _deadline(timeout)
        for _ in range(_TRIES):
            with self._connect() as connection, suppress(ConnectionError):
                return _first_answer(connection, op, members, fds, deadline)
        raise SupervisorError(f"the supervisor hung up on {op}")

    def _connect(self) -> socket.socket:
        connection, hello = start.greet(self._root, start=self._start)
        run = os.fspath(self._root.run)
        if run not in _SEEN:
            _SEEN.add(run)
            if _is_outdated(hello):
                connection.close()
                # Why not is in its log; it serves us as it always did.
                with suppress(SupervisorError):
                    self.upgrade()
                return self._connect()
        return connection


def _is_outdated(hello: Message) -> bool:
    """Tell whether a supervisor that says *hello* is to become one of our code.

    That is where ours is of a newer version, or is what the supervisor's was copied from and has
    been replaced since, be it by an older one. What the supervisor itself has started never asks.
    """
    folder = own_code().folder
    if codecopy.is_copy(folder):
        return False
    if is_older(str(hello.get("version", ""))):
        return True
    return hello.get("origin") == folder and hello["fingerprint"] != codecopy.fingerprint(folder)


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _first_answer(
    connection: socket.socket,
    op: str,
    members: Message,
    fds: Sequence[int],
    deadline: float | None,
) -> tuple[Message, tuple[int, ...]]:
    """Return the answer to one request, and its descriptors; ConnectionError if there is none."""
    asked = {"n": 1, "op": op, **members}
    for message, received in _exchange(connection, asked, fds, deadline):
        if "error" in message:
            raise error_from_json(message["error"])
        return message["ok"], tuple(received)
    raise ConnectionResetError(errno.ECONNRESET, "no answer")


def _exchange(
    connection: socket.socket, asked: Message, fds: Sequence[int], deadline: float | None
) -> Iterator[tuple[Message, Sequence[int]]]:
    """Send one request and yield what comes back until the other side hangs up."""
    send(connection, asked, tuple(fds))
    decoder = Decoder()
    try:
        while True:
            if deadline is not None:
                # 0 would mean non-blocking.
                connection.settimeout(max(1e-3, deadline - time.monotonic()))
            if not receive(connection, decoder):
                return
            yield from decoder.messages()
    finally:
        decoder.close()


def _event(data: Message) -> Event:
    kind, when, told = data.pop("type"), data.pop("time"), data.pop("status")
    return Event(kind, when, status.decode(told), data)
