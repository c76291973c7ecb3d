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
from runtime.supervisor.helper import Helper
from runtime.supervisor.loop import Loop, Timer
from runtime.supervisor.request import Health

_PATIENCE_S = 1.0
"""Beyond a probe's timeout, before the process itself is given up."""

Result = Callable[[bool, str], None]


class _Waiting:
    """A probe that was sent."""

    def __init__(self, health: Health, result: Result, timer: Timer) -> None:
        self.health = health
        self.result = result
        self.timer = timer
        self.again = False
        """Whether this is the second process that has it."""


class ProbeProcess:
    """Starts the process when it is first needed, and again when it has died."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._host = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._helper = Helper(
            loop,
            "runtime.supervisor.probe_worker",
            heard=self._on_answer,
            died=partial(self._start_over, "the probe process ended"),
        )
        self._number = 0
        self._waiting: dict[int, _Waiting] = {}

    @property
    def pid(self) -> int:
        """Of the process; 0 while there is none."""
        return self._helper.pid

    def probe(self, health: Health, result: Result) -> Callable[[], None]:
        """Connect as *health* says and call *result* once; return what cancels that."""
        self._number += 1
        number = self._number
        try:
            self._send(number, health)
        except OSError as error:
            timer = self._loop.call_later(0, partial(result, False, f"no socket: {error}"))
            return timer.cancel
        self._waiting[number] = _Waiting(health, result, self._arm(number, health))
        return partial(self._cancel, number)

    def close(self) -> None:
        """End the process."""
        self._helper.end()
        os.close(self._host)

    def _arm(self, number: int, health: Health) -> Timer:
        return self._loop.call_later(health.timeout + _PATIENCE_S, partial(self._give_up, number))

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

    def _send(self, number: int, health: Health) -> None:
        message = {
            "number": number,
            "kind": health.kind,
            "address": health.address,
            "port": health.port,
            "path": health.path,
            "host": health.host or health.address,
            "timeout": health.timeout,
        }
        with self._make_socket(health) as connection:
            if not self._helper.pid:
                self._helper.start()
            # If it is stuck, the timer tells.
            self._helper.send(json.dumps(message).encode(), (connection.fileno(),))

    def _on_answer(self, data: bytes) -> None:
        answer = json.loads(data)
        waiting = self._waiting.pop(answer["number"], None)
        if waiting is not None:
            waiting.timer.cancel()
            waiting.result(answer["passed"], answer["output"])

    def _give_up(self, number: int) -> None:
        waiting = self._waiting.pop(number)
        self._helper.end()
        self._start_over("the probe process does not answer")
        waiting.result(False, f"no answer within {waiting.health.timeout:g} s")

    def _start_over(self, reason: str) -> None:
        """Have another process make the probes this one has left, each once more at most."""
        for number, waiting in tuple(self._waiting.items()):
            if number not in self._waiting:  # a result told here has had it cancelled
                continue
            waiting.timer.cancel()
            why = reason
            if not waiting.again:
                waiting.again = True
                try:
                    self._send(number, waiting.health)
                    waiting.timer = self._arm(number, waiting.health)
                    continue
                except OSError as error:
                    why = f"no socket: {error}"
            del self._waiting[number]
            waiting.result(False, why)

    def _cancel(self, number: int) -> None:
        waiting = self._waiting.pop(number, None)
        if waiting is not None:
            waiting.timer.cancel()
