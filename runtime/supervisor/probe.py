"""When a container is probed, and by whom; what it means is health's.

While the container is starting it is also probed in between, so that those who wait for it wait
no longer than needed; of these early probes only the successes count.
"""

import itertools
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from runtime.errors import LaunchError
from runtime.kernel.program import Program
from runtime.supervisor.child_process import Process, Starting
from runtime.supervisor.context import Context
from runtime.supervisor.health import Verdict, judge
from runtime.supervisor.launch import Launched
from runtime.supervisor.loop import IN
from runtime.supervisor.names import PROBE
from runtime.supervisor.probe_process import ProbeProcess
from runtime.supervisor.request import Health

MAX_OUTPUT = 4096
_FIRST_S = 0.05
_EARLY_S = 0.5

Result = Callable[[bool, str], None]
"""Called once, with whether the probe passed and what it said."""


class Prober:
    """Probes one container until close()."""

    def __init__(
        self,
        context: Context,
        probes: ProbeProcess,
        container_id: str,
        pidfd: int,
        health: Health,
        *,
        state: str,
        age: float,
        judged: Callable[[str, str], None],
    ) -> None:
        """Call ``judged(state, output)`` after each probe.

        *state* and *age* (seconds since the start) are those of a container that is adopted.
        *pidfd* stays the caller's.
        """
        self._context = context
        self._probes = probes
        self._id = container_id
        self._pidfd = pidfd
        self._health = health
        self._judged = judged
        failures = health.retries if state == "unhealthy" else 0
        self._verdict = Verdict(state=state, failures=failures)
        self._born = time.monotonic() - age
        self._counts_from = self._born + health.interval
        self._cancel: Callable[[], None] | None = None
        self._timer = context.loop.call_later(
            _FIRST_S if state == "starting" else health.interval, self._probe
        )

    def close(self) -> None:
        """Probe no more; kills a probe under way."""
        self._timer.cancel()
        if self._cancel is not None:
            self._cancel()
            self._cancel = None

    def _probe(self) -> None:
        if self._health.kind != "exec":
            self._cancel = self._probes.probe(self._health, self._result)
            return
        try:
            self._cancel = ExecProbe(
                self._context, self._id, self._pidfd, self._health, self._result
            ).cancel
        except OSError as error:
            why = partial(self._result, False, f"the probe cannot be started: {error}")
            self._cancel = self._context.loop.call_later(0, why).cancel

    def _result(self, passed: bool, output: str) -> None:
        self._cancel = None
        now = time.monotonic()
        early = self._verdict.state == "starting" and now < self._counts_from
        if passed or not early:
            self._counts_from = now + self._health.interval
            self._verdict = judge(self._verdict, self._health, passed=passed, age=now - self._born)
        starting = self._verdict.state == "starting"
        delay = min(_EARLY_S, self._health.interval) if starting else self._health.interval
        self._timer = self._context.loop.call_later(delay, self._probe)
        # Last: it may well close this prober.
        self._judged(self._verdict.state, output)


class ExecProbe:
    """One run of a command inside the container."""

    _runs = itertools.count()

    def __init__(
        self, context: Context, container_id: str, pidfd: int, health: Health, result: Result
    ) -> None:
        """Start it; *result* is called once unless it is cancelled.

        Raises:
            OSError: no descriptor is left.
        """
        self._context = context
        self._result: Result | None = result
        self._timeout = health.timeout
        self._process: Process | None = None
        self._starting: Starting | None = None
        self._name = f"{PROBE}{container_id}/{next(self._runs)}"
        self._output = b""
        self._read, write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._read, False)
        context.loop.watch(self._read, IN, self._on_output)
        self._timer = context.loop.call_later(health.timeout, self._time_out)
        try:
            self._starting = Starting(
                context,
                self._name,
                Program.from_json(health.program or {}),
                standard=(None, write, write),
                target=pidfd,
                timeout=health.timeout + 1.0,
                done=self._launched,
                failed=self._failed,
            )
        finally:
            os.close(write)

    def cancel(self) -> None:
        """Kill it, and say nothing."""
        self._result = None
        self._kill()

    def _launched(self, launched: Launched) -> None:
        self._starting = None
        self._process = Process(
            self._context, self._name, launched.pid, launched.pidfd, self._ended
        )

    def _failed(self, error: LaunchError) -> None:
        self._starting = None
        self._conclude(False, str(error))

    def _ended(self, code: int | None) -> None:
        # While it is not collected, its number is that of its process group and no other.
        self._kill()
        self._process = None
        self._on_output(IN)
        text = self._output.decode(errors="replace").strip()
        self._conclude(code == 0, text or ("" if code == 0 else f"ended with {code}"))

    def _time_out(self) -> None:
        text = self._output.decode(errors="replace").strip()
        result, self._result = self._result, None
        self._kill()
        if result is not None:
            result(False, f"no end within {self._timeout:g} s" + (f": {text}" if text else ""))

    def _kill(self) -> None:
        """End the whole probe: it leads a process group of its own."""
        if self._starting is not None:
            self._starting.abandon("cancelled")
        elif self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.signal(signal.SIGKILL)

    def _conclude(self, passed: bool, output: str) -> None:
        self._timer.cancel()
        self._context.loop.forget(self._read)
        os.close(self._read)
        result, self._result = self._result, None
        if result is not None:
            result(passed, output)

    def _on_output(self, _events: int) -> None:
        try:
            data = os.read(self._read, 65536)
        except BlockingIOError:
            return
        self._output = (self._output + data)[:MAX_OUTPUT]
        if not data:
            self._context.loop.forget(self._read)
