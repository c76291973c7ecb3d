"""Processes put into running containers by ``exec``.

Their streams are the client's own descriptors, or a terminal whose master only the client has:
no byte passes through here. When the client vanishes, a process on a terminal is hung up by the
kernel, and an *attached* one without is treated the same here: SIGHUP to its process group. What
shall outlive its client ignores that, as under nohup(1), or was not attached.
"""

import os
import signal
from collections.abc import Callable
from functools import partial

from runtime.errors import ContainerError, LaunchError, NotFoundError
from runtime.kernel.pidfd import pidfd_open
from runtime.kernel.program import Program
from runtime.supervisor import exits
from runtime.supervisor.child_process import Process, Starting
from runtime.supervisor.context import Context
from runtime.supervisor.launch import Launched
from runtime.supervisor.names import EXEC
from runtime.supervisor.request import ExecRequest
from runtime.supervisor.server import Connection

TIMEOUT_S = 30.0
_REMEMBERED = 1024
"""Exit codes kept for clients that have not asked yet."""

Started = Callable[[str, Launched], None]
Failed = Callable[[ContainerError], None]
Ended = Callable[[int | None], None]


class Executions:
    """All exec'ed processes, and how the last ones ended."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._starting: set[str] = set()
        self._running: dict[str, Process] = {}
        self._waiting: dict[str, list[Ended]] = {}
        self._clients: dict[str, int] = {}
        """How many connections each attached one has."""
        self._codes: dict[str, int | None] = {}

    @property
    def active(self) -> bool:
        """Whether any is under way."""
        return bool(self._starting or self._running)

    @property
    def starting(self) -> bool:
        """Whether any has not got to its exec yet."""
        return bool(self._starting)

    def start(
        self,
        wanted: ExecRequest,
        pidfd: int,
        standard: tuple[int | None, int | None, int | None],
        *,
        started: Started,
        failed: Failed,
        ended: Callable[[str, int | None], None],
    ) -> None:
        """Start one in the container of *pidfd*; ``started(name, launched)`` or *failed* follows.

        ``launched.terminal`` is then the callee's; *ended* is called in the end.
        """
        name = os.urandom(6).hex()
        self._starting.add(name)

        def done(launched: Launched) -> None:
            self._starting.discard(name)
            self._follow(name, launched.pid, launched.pidfd, ended)
            started(name, launched)

        def refused(error: LaunchError) -> None:
            self._starting.discard(name)
            failed(error)

        Starting(
            self._context,
            EXEC + name,
            Program.from_json(wanted.program),
            standard=standard,
            target=pidfd,
            size=(wanted.rows, wanted.columns) if wanted.terminal else None,
            timeout=TIMEOUT_S,
            done=done,
            failed=refused,
        )

    def adopt(self) -> None:
        """Take over those a former supervisor has started."""
        link = self._context.link
        for name, code in tuple(link.exits.items()):
            if name.startswith(EXEC):
                self._remember(name.removeprefix(EXEC), code)
        for name, pid in tuple(link.children.items()):
            if name.startswith(EXEC):
                pidfd = link.held.get(f"{name}/pidfd")
                if pidfd is None:
                    try:
                        pidfd = pidfd_open(pid)
                    except ProcessLookupError:  # the keeper says in a moment how it ended
                        continue
                self._follow(name.removeprefix(EXEC), pid, pidfd, lambda _name, _code: None)

    def keeper_says(self, name: str, code: int) -> None:
        """Take the keeper's word for how one ended."""
        process = self._running.get(name)
        if process is not None:
            process.keeper_says(code)
        else:
            self._remember(name, code)

    def wait(self, name: str, ended: Ended) -> Callable[[], None]:
        """Call *ended* once with the exit code; return what takes that back.

        Raises:
            NotFoundError: there is no such process, or its code was asked for already.
        """
        if name in self._codes:
            ended(self._codes.pop(name))
            self._context.link.gone(EXEC + name)
            return lambda: None
        if name not in self._running:
            lost = "keeper and supervisor were killed, or somebody has asked before"
            raise NotFoundError(f"how the command ended is not known any more: {lost}")
        waiting = self._waiting.setdefault(name, [])
        waiting.append(ended)

        def cancel() -> None:
            if ended in waiting:
                waiting.remove(ended)

        return cancel

    def signal(self, name: str, number: int) -> None:
        """Send its process group a signal; does nothing if it has ended.

        Raises:
            NotFoundError: there is no such process.
        """
        if name not in self._running:
            if name in self._codes:
                return
            raise NotFoundError(f"no exec {name}")
        self._running[name].signal_group(number)

    def attach(self, name: str, connection: Connection) -> None:
        """Tie it to a client: when the last of its connections is lost it is hung up."""
        self._clients[name] = self._clients.get(name, 0) + 1

        def lost() -> None:
            left = self._clients.pop(name) - 1
            if left:
                self._clients[name] = left
            elif name in self._running:
                self._running[name].signal_group(signal.SIGHUP)

        if connection.closed:
            lost()
        else:
            connection.on_close.append(lost)

    def _follow(
        self, name: str, pid: int, pidfd: int, ended: Callable[[str, int | None], None]
    ) -> None:
        def finished(code: int | None) -> None:
            del self._running[name]
            result = None if code is None else exits.shell_code(code)
            self._settle(name, result)
            ended(name, result)

        self._running[name] = Process(
            self._context, EXEC + name, pid, pidfd, finished, remember=True
        )

    def _remember(self, name: str, code: int) -> None:
        """Take over a code the keeper has."""
        self._context.link.drop(f"{EXEC}{name}/pidfd")
        self._settle(name, exits.shell_code(code))

    def _settle(self, name: str, code: int | None) -> None:
        """Tell those who wait, or keep the code for whoever will ask."""
        waiting = self._waiting.pop(name, [])
        for ended in waiting:
            ended(code)
        if waiting:
            # Not before the process is through with its name.
            self._context.loop.call_later(0, partial(self._context.link.gone, EXEC + name))
            return
        self._codes[name] = code
        while len(self._codes) > _REMEMBERED:
            oldest = next(iter(self._codes))
            del self._codes[oldest]
            self._context.link.gone(EXEC + oldest)
