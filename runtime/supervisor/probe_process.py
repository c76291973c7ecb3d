"""HTTP and TCP probes: the supervisor's side of the one unprivileged process that makes them.

The supervisor only makes the socket, inside the container's network namespace, and hands it
over: what the container answers is never looked at by a process that may do anything.
"""

import json
import os
import socket
from collections.abc import Callable
from functools import partial

from runtime.kernel.namespaces import CLONE_NEWNET, setns
from runtime.supervisor.loop import Loop, Timer
from runtime.supervisor.names import command
from runtime.supervisor.packets import PacketChannel
from runtime.supervisor.request import Health

MAX_MESSAGE = 65536
_PATIENCE_S = 1.0
"""Beyond a probe's timeout, before the process itself is given up."""

Result = Callable[[bool, str], None]


class ProbeProcess:
    """Starts the process when it is first needed, and again when it has died."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._host = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._channel: PacketChannel | None = None
        self._pid = 0
        self._number = 0
        self._waiting: dict[int, tuple[Result, Timer]] = {}

    @property
    def pid(self) -> int:
        """Of the process; 0 while there is none."""
        return self._pid

    def probe(self, health: Health, result: Result) -> Callable[[], None]:
        """Connect as *health* says and call *result* once; return what cancels that."""
        self._number += 1
        number = self._number
        try:
            connection = self._make_socket(health)
        except OSError as error:
            timer = self._loop.call_later(0, partial(result, False, f"no socket: {error}"))
            return timer.cancel
        with connection:
            self._send(number, health, connection)
        timer = self._loop.call_later(
            health.timeout + _PATIENCE_S, partial(self._give_up, health.timeout)
        )
        self._waiting[number] = (result, timer)
        return partial(self._cancel, number)

    def close(self) -> None:
        """End the process."""
        self._end()
        os.close(self._host)

    def _make_socket(self, health: Health) -> socket.socket:
        family = socket.AF_INET6 if ":" in health.address else socket.AF_INET
        kind = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
        if health.netns is None:
            return socket.socket(family, kind)
        namespace = os.open(health.netns, os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(namespace, CLONE_NEWNET)
            try:
                return socket.socket(family, kind)
            finally:
                setns(self._host, CLONE_NEWNET)
        finally:
            os.close(namespace)

    def _send(self, number: int, health: Health, connection: socket.socket) -> None:
        message = {
            "number": number,
            "kind": health.kind,
            "address": health.address,
            "port": health.port,
            "path": health.path,
            "host": health.host or health.address,
            "timeout": health.timeout,
        }
        if self._channel is None:
            self._channel = self._start()
        # If it is stuck or dead, the timer or its end of file will fail this probe and all others.
        self._channel.send(json.dumps(message).encode(), (connection.fileno(),))

    def _start(self) -> PacketChannel:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._pid = os.posix_spawn(
                "/proc/self/exe",
                command("runtime.supervisor.probe_worker"),
                {},
                file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0)],
                setsigmask=[],
            )
        return PacketChannel(self._loop, ours, self._on_answer)

    def _on_answer(self) -> None:
        assert self._channel is not None
        try:
            data = self._channel.socket.recv(MAX_MESSAGE)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            self._fail_all("the probe process ended")
            return
        answer = json.loads(data)
        waiting = self._waiting.pop(answer["number"], None)
        if waiting is not None:
            result, timer = waiting
            timer.cancel()
            result(answer["passed"], answer["output"])

    def _give_up(self, timeout: float) -> None:
        self._fail_all(f"no answer within {timeout:g} s")

    def _fail_all(self, reason: str) -> None:
        self._end()
        waiting, self._waiting = self._waiting, {}
        for result, timer in waiting.values():
            timer.cancel()
            result(False, reason)

    def _cancel(self, number: int) -> None:
        waiting = self._waiting.pop(number, None)
        if waiting is not None:
            waiting[1].cancel()

    def _end(self) -> None:
        if self._channel is None:
            return
        self._channel.close()
        self._channel = None
        os.kill(self._pid, 9)
        os.waitpid(self._pid, 0)
        self._pid = 0
