"""One container: from its launch over restarts to its end.

::

    created --> running --> restarting --> running ...     started again by policy
       |           |            |
       v           v            v
      dead      exited       exited                        ended for good

Everything needed to go on after a kill -9 is in two files of the run folder: launch.json, the
request, and status.json, written before the world is told of a transition.
"""

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from runtime.errors import LaunchError, StateError
from runtime.kernel.procfs import start_ticks
from runtime.kernel.program import Program
from runtime.supervisor import exits, request, status, strays
from runtime.supervisor.child_process import Process, Starting
from runtime.supervisor.context import Context
from runtime.supervisor.interpreter import Launched
from runtime.supervisor.logfile import STDOUT, LogWriter
from runtime.supervisor.loop import Timer
from runtime.supervisor.names import CONTAINER
from runtime.supervisor.probe import Prober
from runtime.supervisor.probe_process import ProbeProcess
from runtime.supervisor.pump import FIFOS, Pump, make_fifos, open_fifo
from runtime.supervisor.request import LaunchRequest
from runtime.supervisor.restart import End, decide
from runtime.supervisor.status import Status

LAUNCH_FILE = "launch.json"
LAUNCH_TIMEOUT_S = 60.0
_RETRY_S = 1.0

Reply = Callable[["Container", LaunchError | None], None]


class Container:
    """State machine of one container. Methods return at once; ends are told by callbacks."""

    def __init__(
        self, context: Context, probes: ProbeProcess, wanted: LaunchRequest, known: Status
    ) -> None:
        self.request = wanted
        self.status = known
        self.warnings: tuple[str, ...] = ()
        """What the host could not give at the last start."""
        self._context = context
        self._probes = probes
        self._name = CONTAINER + wanted.id
        self._folder = context.home.run_folder(wanted.id)
        self._pump: Pump | None = None
        self._starting: Starting | None = None
        self._process: Process | None = None
        self._prober: Prober | None = None
        self._timer: Timer | None = None
        """To SIGKILL while running, to the next start while restarting."""
        self._on_launched: list[Reply] = []
        self._on_end: list[Callable[[Status], None]] = []

    @property
    def active(self) -> bool:
        """Whether there is anything left to do for it."""
        return not self.status.ended or self._pump is not None

    @property
    def process(self) -> Process | None:
        """Its first process, while it runs."""
        return self._process

    @property
    def terminal(self) -> int | None:
        """Master of its terminal, while it runs and has one."""
        return self._context.link.held.get(f"{self._name}/terminal")

    # -- from outside

    def launch(self, reply: Reply, *, stdin: int | None = None) -> None:
        """Start it for the first time; *stdin* stays the caller's.

        Raises:
            OSError: its folder or log cannot be made.
        """
        os.makedirs(self._folder, 0o700, exist_ok=True)
        self._save(Status(id=self.request.id, token=self.request.token))
        self._write_request()
        self._on_launched.append(reply)
        self._start(stdin)

    def join_launch(self, reply: Reply) -> None:
        """Be told as well how the launch under way goes, or went."""
        if self._starting is not None:
            self._on_launched.append(reply)
        else:
            reply(self, None)

    def stop(self, ended: Callable[[Status], None], *, number: int, grace: float) -> None:
        """Send signal *number*, SIGKILL *grace* seconds later, and call *ended* in the end.

        No policy starts it again. May be repeated, with less grace too.
        """
        self._on_end.append(ended)
        if self.status.ended:
            self._save(replace(self.status, stop_requested=True))
            self._tell_ended()
        elif self._starting is not None:
            self._save(replace(self.status, stop_requested=True))
            self._starting.abandon("stopped while it was being launched")
        elif self._process is None:
            self._cancel_timer()
            self._save(replace(self.status, state="exited", stop_requested=True, next_start=None))
            self._finish("died")
        else:
            self._save(replace(self.status, stop_requested=True))
            self._end_within(number, grace)

    def kill(self, number: int) -> None:
        """Send a signal to its first process.

        SIGKILL and the stop signal mean that it shall stay ended, as a stop does.

        Raises:
            StateError: it does not run.
        """
        if self._process is None:
            raise StateError(f"cannot signal {self.request.id}: it is {self.status.state}")
        if number in (signal.SIGKILL, self.request.stop.signal):
            self._save(replace(self.status, stop_requested=True))
        self._process.signal(number)

    def wait(self, ended: Callable[[Status], None]) -> Callable[[], None]:
        """Call *ended* once it has ended for good; return what takes that back."""
        self._on_end.append(ended)
        if self.status.ended:
            self._tell_ended()

        def cancel() -> None:
            if ended in self._on_end:
                self._on_end.remove(ended)

        return cancel

    def configure(self, changed: LaunchRequest) -> None:
        """Go on under other restart, health, log and stop settings."""
        before, self.request = self.request, changed
        self._write_request()
        if self._pump is not None:
            self._pump.log.max_size = changed.logs.max_size
            self._pump.log.max_files = changed.logs.max_files
        if before.health != changed.health and self._process is not None:
            self._stop_probing()
            self._save(replace(self.status, health="starting" if changed.health else "none"))
            self._start_probing()

    def remove_files(self) -> None:
        """Forget an ended one: its request, status and FIFOs. The log stays."""
        self._close_pump()
        for name in (LAUNCH_FILE, *FIFOS.values(), status.FILE):
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(self._folder, name))
        with suppress(OSError):  # others keep files there too
            os.rmdir(self._folder)

    # -- after a crash

    def adopt(self) -> None:
        """Go on with what a supervisor that was killed has left, as its files tell.

        Raises:
            OSError: the log cannot be opened; may be tried again.
        """
        link, name = self._context.link, self._name
        if self.status.ended:
            if f"{name}/{FIFOS[STDOUT]}" in link.held:
                self._open_pump()
                self._close_when_drained()
            self._let_go()
            return
        self._open_pump()
        pid = link.children.get(name, self.status.pid)
        if name in link.exits:
            self._died(link.exits[name])
            self._let_go()
        elif pid and self._adopt_process(pid, announced=name in link.children):
            pass
        elif self.status.state == "running":
            self._died(None)
            self._let_go()
        else:
            self._adopt_without_process()

    def keeper_says(self, code: int) -> None:
        """Take the keeper's word for how its process ended."""
        if self._process is not None:
            self._process.keeper_says(code)

    def _adopt_process(self, pid: int, *, announced: bool) -> bool:
        """Go on with that process; return False if it is gone."""
        known = self.status
        held = self._context.link.held.get(f"{self._name}/pidfd")
        try:
            pidfd = os.pidfd_open(pid) if held is None else held
        except ProcessLookupError:
            return False
        # Without the old descriptor, what has this pid now may be somebody else. A zombie will do:
        # it can still tell how it ended.
        if held is None and not announced and start_ticks(pid) != known.start_time:
            os.close(pidfd)
            return False
        if known.state != "running":
            # It was killed between the launch and its being written down.
            known = replace(
                known,
                state="running",
                start_time=start_ticks(pid) or 0,
                started_at=time.time(),
                restarts=known.restarts + (known.state == "restarting"),
                next_start=None,
            )
        self._process = Process(self._context, self._name, pid, pidfd, self._died)
        self._save(replace(known, pid=pid))
        if self._pump is not None and self.terminal is not None:
            self._pump.attach_terminal(self.terminal)
        if known.kill_at is not None:
            self._end_within(self.request.stop.signal, known.kill_at - time.time())
        self._start_probing()
        return True

    def _adopt_without_process(self) -> None:
        """Clean up after a launch that was cut off, or wait for one that is still to come."""
        if self._adopt_stray():
            return
        self._let_go()
        if self.status.state == "restarting":
            wait = (self.status.next_start or 0.0) - time.time()
            self._timer = self._context.loop.call_later(wait, self._start)
        else:
            self._save(replace(self.status, state="dead", error="the launch was interrupted"))
            self._finish("failed")

    def _adopt_stray(self) -> bool:
        """Take over what a cut-off launch has left in the container's cgroups, or kill it."""
        pids: set[int] = set()
        for path in self.request.cgroup_procs:
            with suppress(FileNotFoundError), open(path, encoding="ascii") as file:
                pids |= set(map(int, file))
        stdout = self._context.link.held[f"{self._name}/{FIFOS[STDOUT]}"]
        for pid in strays.first_of(pids):
            if strays.settle(pid, {self._name: stdout}) and self._adopt_process(
                pid, announced=True
            ):
                return True
        return False

    def _let_go(self) -> None:
        self._context.link.drop(f"{self._name}/pidfd")
        self._context.link.gone(self._name)

    def _kill_strays(self) -> None:
        """Kill what a cut-off launch has left in the container's cgroups."""
        for path in self.request.cgroup_procs:
            with suppress(FileNotFoundError), open(path, encoding="ascii") as file:
                for line in file:
                    with suppress(ProcessLookupError):
                        os.kill(int(line), signal.SIGKILL)

    # -- starting

    def _start(self, stdin: int | None = None) -> None:
        opened: list[int] = []
        try:
            if self._pump is None:
                self._open_pump()
            for stream in FIFOS:
                opened.append(open_fifo(self._folder, stream, blocking=True))
            self._starting = Starting(
                self._context,
                self._name,
                Program.from_json(self.request.program),
                standard=(stdin, opened[0], opened[1]),
                timeout=LAUNCH_TIMEOUT_S,
                done=self._launched,
                failed=self._launch_failed,
            )
        except OSError as error:
            # Out of descriptors, or the disk is full.
            self._launch_failed(LaunchError(f"cannot launch {self.request.id}: {error}"))
        finally:
            for fd in opened:
                os.close(fd)

    def _launched(self, launched: Launched) -> None:
        self._starting = None
        self.warnings = launched.warnings
        if launched.terminal is not None:
            os.set_blocking(launched.terminal, False)
            self._context.link.hold(f"{self._name}/terminal", launched.terminal)
            assert self._pump is not None
            self._pump.attach_terminal(launched.terminal)
        again = self.status.state == "restarting"
        self._save(
            replace(
                self.status,
                state="running",
                pid=launched.pid,
                start_time=start_ticks(launched.pid) or 0,
                started_at=time.time(),
                restarts=self.status.restarts + again,
                health="starting" if self.request.health else "none",
                health_output="",
                error="",
                next_start=None,
                oom_killed=False,
                oom_count=self._oom_count(),
            )
        )
        self._process = Process(self._context, self._name, launched.pid, launched.pidfd, self._died)
        self._context.emit("restarted" if again else "started", self.status, {})
        self._start_probing()
        self._tell_launched(None)

    def _launch_failed(self, error: LaunchError) -> None:
        self._starting = None
        self.status = replace(
            self.status,
            error=str(error),
            exit_code=error.exit_code,
            signal=None,
            finished_at=time.time(),
        )
        if self.status.state == "restarting":
            self._decide(exit_code=error.exit_code, ran_for=0.0, ended_as="dead")
        else:
            self._save(replace(self.status, state="dead"))
        if self.status.ended:
            self._finish("failed")
        else:
            self._context.emit("failed", self.status, {})
        self._tell_launched(error)

    def _tell_launched(self, error: LaunchError | None) -> None:
        replies, self._on_launched = self._on_launched, []
        for reply in replies:
            reply(self, error)

    # -- ending

    def _end_within(self, number: int, grace: float) -> None:
        """Signal the process now, kill it after *grace* seconds or when an earlier grace ends."""
        assert self._process is not None
        kill_at = time.time() + grace
        if self.status.kill_at is not None:
            kill_at = min(kill_at, self.status.kill_at)
        self._save(replace(self.status, kill_at=kill_at))
        self._cancel_timer()
        if grace <= 0:
            self._process.signal(signal.SIGKILL)
            return
        self._process.signal(number)
        process = self._process
        self._timer = self._context.loop.call_later(
            kill_at - time.time(), lambda: process.signal(signal.SIGKILL)
        )

    def _died(self, code: int | None) -> None:
        self._process = None
        self._cancel_timer()
        self._stop_probing()
        if self._pump is not None:
            self._pump.detach_terminal()
            self._pump.drain()
        self._context.link.drop(f"{self._name}/terminal")
        before = self.status
        oom = self._oom_count() > before.oom_count
        self.status = replace(
            before,
            pid=0,
            start_time=0,
            exit_code=None if code is None else exits.shell_code(code),
            signal=-code if code is not None and code < 0 else None,
            finished_at=time.time(),
            kill_at=None,
            oom_killed=oom,
            error="" if code is not None else "nobody could tell how it ended",
        )
        self._decide(
            exit_code=self.status.exit_code,
            ran_for=time.time() - (before.started_at or 0.0),
            ended_as="exited",
            unhealthy=before.kill_at is not None and before.health == "unhealthy",
        )
        if self.status.ended:
            self._finish("died")
        else:
            self._context.emit("died", self.status, {})

    def _decide(
        self, *, exit_code: int | None, ran_for: float, ended_as: str, unhealthy: bool = False
    ) -> None:
        """Save whether it is started again, and when; arm the timer."""
        decision = decide(
            self.request.restart,
            End(
                exit_code=exit_code,
                ran_for=ran_for,
                attempts=self.status.attempts,
                stop_requested=self.status.stop_requested,
                unhealthy=unhealthy,
            ),
        )
        changed = replace(self.status, attempts=decision.attempts)
        if decision.restart:
            when = time.time() + decision.delay
            self._save(replace(changed, state="restarting", next_start=when))
            self._timer = self._context.loop.call_later(decision.delay, self._start)
        else:
            error = "; ".join(filter(None, (changed.error, decision.reason)))
            self._save(replace(changed, state=ended_as, next_start=None, error=error))

    def _finish(self, event: str) -> None:
        """Let go of everything and tell whoever waits; status is saved already."""
        self._close_when_drained()
        self._context.emit(event, self.status, {})
        self._tell_ended()

    def _tell_ended(self) -> None:
        waiting, self._on_end = self._on_end, []
        for ended in waiting:
            ended(self.status)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- parts

    def _open_pump(self) -> None:
        """Make and open the FIFOs, those the keeper held first, and the log."""
        link, logs = self._context.link, self.request.logs
        make_fifos(self._folder, uid=self.request.uid, gid=self.request.gid)
        fifos = {}
        for stream, stream_name in FIFOS.items():
            name = f"{self._name}/{stream_name}"
            if name not in link.held:
                link.hold(name, open_fifo(self._folder, stream, blocking=False))
            fifos[stream] = link.held[name]
        writer = LogWriter(
            logs.path,
            max_size=logs.max_size,
            max_files=logs.max_files,
            peek=self._context.peek,
        )
        self._pump = Pump(self._context.loop, writer, fifos)

    def _close_when_drained(self) -> None:
        if self._pump is None or not self.status.ended:
            return
        if self._pump.drain():
            self._close_pump()
        else:
            # The disk is full: rather keep the bytes in their pipes than lose them.
            self._context.loop.call_later(_RETRY_S, self._close_when_drained)

    def _close_pump(self) -> None:
        if self._pump is not None:
            self._pump.close()
            self._pump = None
            for stream_name in FIFOS.values():
                self._context.link.drop(f"{self._name}/{stream_name}")

    def _start_probing(self) -> None:
        health = self.request.health
        if health is None or self._process is None:
            return
        self._prober = Prober(
            self._context,
            self._probes,
            self.request.id,
            self._process.pidfd,
            health,
            state=self.status.health,
            age=time.time() - (self.status.started_at or time.time()),
            judged=self._judged,
        )

    def _stop_probing(self) -> None:
        if self._prober is not None:
            self._prober.close()
            self._prober = None

    def _judged(self, state: str, output: str) -> None:
        """Take in what a probe has shown."""
        before = self.status
        if (state, output) != (before.health, before.health_output):
            self._save(replace(before, health=state, health_output=output))
        if state == before.health:
            return
        self._context.emit("health", self.status, {})
        health = self.request.health
        if (
            state == "unhealthy"
            and health is not None
            and health.on_unhealthy == "restart"
            and self.request.restart.policy != "no"
            and self.status.kill_at is None
        ):
            self._stop_probing()
            self._end_within(self.request.stop.signal, self.request.stop.grace)

    def _oom_count(self) -> int:
        return sum(map(_oom_kills, self.request.oom_files))

    def _save(self, changed: Status) -> None:
        """Make *changed* the status, on disk too.

        A full disk does not stop a container from being kept; readers see the past until the
        next transition.
        """
        self.status = changed
        with suppress(OSError):
            status.write(self._folder, changed)

    def _write_request(self) -> None:
        path = os.path.join(self._folder, LAUNCH_FILE)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        with open(os.open(path + ".tmp", flags, 0o600), "w", encoding="utf-8") as file:
            json.dump(request.encode(self.request), file)
        os.rename(path + ".tmp", path)


def read_request(folder: str) -> LaunchRequest | None:
    """Return the request kept in a run folder, None if there is none."""
    try:
        with open(os.path.join(folder, LAUNCH_FILE), encoding="utf-8") as file:
            data: dict[str, Any] = json.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return request.decode(LaunchRequest, data)


def _oom_kills(path: str) -> int:
    """Return the ``oom_kill`` count in a memory.oom_control or memory.events file."""
    with suppress(FileNotFoundError, OSError), open(path, encoding="ascii") as file:
        for line in file:
            key, _, value = line.partition(" ")
            if key == "oom_kill":
                return int(value)
    return 0
