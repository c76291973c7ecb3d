"""The supervisor: its parts, what it goes on with, and when it ends.

It parents all containers of one world, in one thread that never waits. All it knows that must
outlive it is in the containers' run folders and with its keeper; so it ends as soon as it has
nothing to do, and is started again when there is.
"""

import gc
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from signal import SIGKILL

from runtime.errors import ContainerError, StateError, SupervisorError
from runtime.supervisor import codecopy, request, status
from runtime.supervisor.container import LAUNCH_TIMEOUT_S
from runtime.supervisor.dns import DnsServer
from runtime.supervisor.execution import Executions
from runtime.supervisor.link import Link
from runtime.supervisor.loop import Loop, Timer
from runtime.supervisor.names import CONTAINER, EXEC, PROBE, SOCKET, Code, Home, own_code
from runtime.supervisor.note import note
from runtime.supervisor.population import Population
from runtime.supervisor.protocol import VERSION
from runtime.supervisor.server import Request, Server
from runtime.supervisor.service import Service
from runtime.supervisor.status import Status
from runtime.supervisor.upgrade import Upgrade
from runtime.version import VERSION as CODE_VERSION

IDLE_S = 1.0


class Supervisor:
    """The one process that looks after a world."""

    def __init__(self, home: Home, listener: socket.socket, link: Link) -> None:
        """Adopt what is there, then listen."""
        self._home = home
        self._link = link
        self._loop = Loop()
        self._containers = Population(home, self._loop, link, self._consider_ending)
        self._context = self._containers.context
        self._executions = Executions(self._context)
        self._dns = DnsServer(self._context)
        self._idle_timer: Timer | None = None
        self._upgrading = False
        self._put_off_until = 0.0
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
        service = Service(self._containers, self._executions, self._consider_ending)
        self._operations: dict[str, Callable[[Request], None]] = {
            **service.operations,
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
        self._containers.adopt()
        self._executions.adopt()
        self._dns.adopt()
        for name in (*self._link.exits, *self._link.unborn):
            ours = name.startswith(EXEC) or name.removeprefix(CONTAINER) in self._containers
            if name in self._link.unborn or not ours:
                self._link.gone(name)

    def _keeper_says(self, name: str, code: int) -> None:
        if name.startswith(CONTAINER):
            self._containers.keeper_says(name, code)
        elif name.startswith(EXEC):
            self._executions.keeper_says(name.removeprefix(EXEC), code)
        elif name.startswith(PROBE):
            self._link.gone(name)

    @property
    def _idle(self) -> bool:
        return not (self._server.connections or self._executions.active or self._containers.active)

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
        self._containers.probes.close()
        self._link.bye()
        self._loop.stop()

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
                "probes": self._containers.probes.pid,
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
        if time.monotonic() < self._put_off_until and not self._is_quiet():
            raise SupervisorError("no upgrade yet: what held up the last one is still under way")
        containers = {
            each.request.id: {
                "status": status.encode(each.status),
                "request": request.encode(each.request),
            }
            for each in self._containers
        }

        def failed(error: ContainerError, put_off: bool) -> None:
            self._upgrading = False
            self._server.resume()
            if put_off:
                self._put_off_until = time.monotonic() + LAUNCH_TIMEOUT_S
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
            or self._containers.at_errands
            or any(container.starting for container in self._containers)
            or any(not connection.asked for connection in self._server.connections)
        )

    def _shutdown(self, asked: Request) -> None:
        active = [c for c in self._containers if not c.status.ended]
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
