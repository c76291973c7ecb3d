"""One container: from its launch over restarts to its end.

::

    created --> running --> restarting --> running ...     started again by policy
       |           |            |
       v           v            v
      dead      exited       exited                        ended for good

Everything needed to go on after a kill -9 is in two files of the run folder: launch.json, the
request, and status.json, written before the world is told of a transition.
"""

import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace

from runtime.errors import LaunchError, StateError
from runtime.kernel.procfs import read_stat
from runtime.kernel.program import Program
from runtime.supervisor import adoption, exits, record, status, strays, transition
from runtime.supervisor.child_process import Process, Starting
from runtime.supervisor.context import Context
from runtime.supervisor.launch import Launched
from runtime.supervisor.logfile import STREAMS
from runtime.supervisor.loop import Timer
from runtime.supervisor.names import CONTAINER
from runtime.supervisor.output import Output
from runtime.supervisor.probe import Prober
from runtime.supervisor.probe_process import ProbeProcess
from runtime.supervisor.request import LaunchRequest
from runtime.supervisor.restart import End, decide
from runtime.supervisor.status import Status
from runtime.supervisor.waiters import Ended, Survives, Waiters

LAUNCH_TIMEOUT_S = 60.0

SURVIVAL_S = 10.0
"""How long after SIGKILL a process may take to go, before whoever stops it is told."""

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
        self.orphaned = False
        """Whether it is a former supervisor's, and not adopted yet: nothing is known of it."""
        self._context = context
        self._probes = probes
        self._name = CONTAINER + wanted.id
        self._folder = context.home.run_folder(wanted.id)
        self._state_folder = context.home.state_folder(wanted.id)
        self._output = Output(context, self._name, self._folder)
        self._starting: Starting | None = None
        self._process: Process | None = None
        self._prober: Prober | None = None
        self._timer: Timer | None = None
        """To SIGKILL while running, to the next start while restarting."""
        self._on_launched: list[Reply] = []
        self._ooms = 0
        """Kills for memory in its cgroup that were told of."""
        self._end_oom_watch: Callable[[], None] = lambda: None
        self._waiters = Waiters()

    @property
    def active(self) -> bool:
        """Whether there is anything left to do for it."""
        return self.orphaned or not self.status.ended or self._output.active

    @property
    def starting(self) -> bool:
        """Whether a launch of it is under way."""
        return self._starting is not None

    @property
    def process(self) -> Process | None:
        """Its first process, while it runs."""
        return self._process

    @property
    def terminal(self) -> int | None:
        """Master of its terminal, while it runs and has one."""
        return self._output.terminal

    # -- from outside

    def launch(self, reply: Reply, *, stdin: int | None = None) -> None:
        """Start it for the first time; *stdin* stays the caller's.

        Raises:
            OSError: its folder or log cannot be made.
        """
        os.makedirs(self._folder, 0o700, exist_ok=True)
        self._save(self.status)
        status.forget_last(self._state_folder)
        record.write_request(self._folder, self.request)
        self._on_launched.append(reply)
        self._start(stdin)

    def follow(self, pipes: Mapping[str, int]) -> None:
        """Write what it writes to *pipes* (``stdout``, ``stderr``) as well; still the caller's.

        Until it has ended for good, or nobody reads them any more.
        """
        for stream, name in STREAMS.items():
            if name in pipes:
                self._output.follow(stream, os.dup(pipes[name]))

    def join_launch(self, reply: Reply) -> None:
        """Be told as well how the launch under way goes, or went."""
        if self._starting is not None:
            self._on_launched.append(reply)
        else:
            reply(self, None)

    def stop(
        self,
        ended: Ended,
        survives: Survives,
        *,
        number: int,
        grace: float,
        resumes: bool = False,
    ) -> None:
        """Send signal *number*, SIGKILL *grace* seconds later, and call *ended* in the end.

        Or else *survives*, where not even SIGKILL ends it within SURVIVAL_S. No policy starts it
        again; but the next boot does where it *resumes*. May be repeated, with less grace too.
        """
        self._waiters.stop(ended, survives)
        if self.status.ended:
            if not resumes:
                self._save(replace(self.status, stop_requested=True, resumes=False))
                self._save_last()
            self._waiters.tell_ended(self.status)
            return
        # What somebody has stopped by hand stays so when the host goes down meanwhile.
        resumes = resumes and (self.status.resumes or not self.status.stop_requested)
        self.status = replace(self.status, stop_requested=True, resumes=resumes)
        if self._starting is not None:
            self._save(self.status)
            self._starting.abandon("stopped while it was being launched")
        elif self._process is None:
            self._cancel_timer()
            self._save(replace(self.status, state="exited", next_start=None))
            self._finish("died")
        else:
            ending = self.request.balanced
            self._save(replace(self.status, ending=ending))
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
            changed = replace(self.status, stop_requested=True)
            if number == signal.SIGKILL:  # what the other comes to is the program's to decide
                changed = replace(changed, ending=self.request.balanced, kill_at=time.time())
            self._save(changed)
        self._process.signal(number)

    def pause(self) -> None:
        """Ask for its health no more: somebody has it stand still. Idempotent.

        Raises:
            StateError: it does not run.
        """
        if self._process is None:
            raise StateError(f"cannot pause {self.request.id}: it is {self.status.state}")
        if not self.status.paused:
            self._stop_probing()
            self._save(replace(self.status, paused=True))
            self._context.emit("paused", self.status, {})

    def resume(self) -> None:
        """Ask for its health again. Idempotent."""
        if self.status.paused:
            self._save(replace(self.status, paused=False))
            self._start_probing()
            self._context.emit("resumed", self.status, {})

    def spare(self) -> None:
        """Count as ending from now on: somebody moves its traffic, and stops it then."""
        if self._process is not None and not self.status.ending and self.request.balanced:
            self._save(replace(self.status, ending=True))

    def spare_no_longer(self) -> None:
        """Count as ending only if it is: whoever meant to stop it has gone away."""
        if self.status.ending and self.status.kill_at is None and not self.status.ended:
            self._save(replace(self.status, ending=False))

    def wait(self, ended: Ended) -> Callable[[], None]:
        """Call *ended* once it has ended for good; return what takes that back."""
        cancel = self._waiters.wait(ended)
        if self.status.ended:
            self._waiters.tell_ended(self.status)
        return cancel

    def configure(self, changed: LaunchRequest) -> None:
        """Go on under other restart, health, log and stop settings."""
        before, self.request = self.request, changed
        record.write_request(self._folder, self.request)
        self._output.configure(changed.logs)
        if before.health != changed.health and not self.status.ended:
            self._stop_probing()
            health = "starting" if changed.health else "none"
            resting = self.status.resting and changed.health is not None
            self._save(replace(self.status, health=health, health_output="", resting=resting))
            self._context.emit("health", self.status, {})
            self._start_probing()

    def remove_files(self) -> None:
        """Forget an ended one: its request, status and FIFOs. The log stays."""
        self._output.close()
        record.remove(self._folder)

    # -- after a crash

    def adopt(self) -> None:
        """Go on with what a supervisor that was killed has left.

        Raises:
            OSError: the log cannot be opened, or there is no descriptor left. It is *orphaned*
                until this is tried again with success.
        """
        self.orphaned = True
        if self.status.ended:
            if self._output.inherited:
                self._output.open(self.request.logs)
                self._output.finish()
            self.orphaned = False
            self._let_go()
            return
        self._output.prepare(self.request)
        self._output.open(self.request.logs)
        remains = adoption.look(
            self._context.link,
            self._name,
            self.status,
            cgroup_procs=self.request.cgroup_procs,
        )
        self.orphaned = False
        if remains.pid:
            self._go_on(remains.pid, remains.pidfd)
            return
        if remains.ended:
            if self.status.state != "running":
                # It was started and ended, and nobody could write that down.
                self.status = self._as_started(0)
            self._died(remains.code)
        elif self.status.state == "restarting":
            wait = (self.status.next_start or 0.0) - time.time()
            self._save(replace(self.status, pid=0, start_time=0))
            self._timer = self._context.loop.call_later(wait, self._start)
        else:
            error = "the launch was interrupted"
            self._save(replace(self.status, state="dead", pid=0, start_time=0, error=error))
            self._finish("failed")
        self._let_go()

    def keeper_says(self, code: int) -> None:
        """Take the keeper's word for how its process ended."""
        if self._process is not None:
            self._process.keeper_says(code)

    def _go_on(self, pid: int, pidfd: int) -> None:
        """Keep the process a former supervisor has started."""
        self._watch_oom(self._oom_count())
        known = self.status if self.status.state == "running" else self._as_started(pid)
        self._process = Process(self._context, self._name, pid, pidfd, self._died)
        # Who only meant to stop it has lost its connection, and asks again.
        self._save(replace(known, ending=known.ending and known.kill_at is not None))
        if known.kill_at is not None:
            self._end_within(self.request.stop.signal, known.kill_at - time.time())
        self._start_probing()

    def _let_go(self) -> None:
        self._context.link.drop(f"{self._name}/pidfd")
        self._context.link.gone(self._name)

    # -- starting

    def _start(self, stdin: int | None = None) -> None:
        rows, columns = self.request.rows, self.request.columns
        try:
            self._output.prepare(self.request)
            with self._output.child_ends() as (stdout, stderr):
                self._starting = Starting(
                    self._context,
                    self._name,
                    Program.from_json(self.request.program),
                    standard=(stdin, stdout, stderr),
                    size=(rows, columns) if rows and columns else None,
                    timeout=LAUNCH_TIMEOUT_S,
                    forked=self._forked,
                    done=self._launched,
                    failed=self._launch_failed,
                )
            # Now, while the child is at work: what it writes waits in the FIFOs.
            self._output.open(self.request.logs)
        except OSError as error:
            # Out of descriptors, or the disk is full.
            reason = f"cannot launch {self.request.id}: {error}"
            if self._starting is not None:
                self._starting.abandon(reason)
            else:
                self._launch_failed(LaunchError(reason))

    def _forked(self, pid: int) -> None:
        self._save(transition.forked(self.status, pid, oom_count=self._oom_count()))

    def _launched(self, launched: Launched) -> None:
        self._starting = None
        self.warnings = launched.warnings
        if launched.terminal is not None:
            self._output.take_terminal(launched.terminal)
        again = self.status.state == "restarting"
        self._save(self._as_started(launched.pid))
        self._watch_oom(self.status.oom_count)
        self._process = Process(self._context, self._name, launched.pid, launched.pidfd, self._died)
        self._context.emit("restarted" if again else "started", self.status, {})
        self._tell_oom()  # it may have been quicker than we
        self._start_probing()
        self._tell_launched(None)

    def _as_started(self, pid: int) -> Status:
        return transition.started(self.status, self.request, pid)

    def _launch_failed(self, error: LaunchError) -> None:
        self._starting = None
        self.status = transition.not_started(self.status, self.request, error)
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
            self._kill()
            return
        self._process.signal(number)
        self._timer = self._context.loop.call_later(kill_at - time.time(), self._kill)

    def _kill(self) -> None:
        assert self._process is not None
        self._process.signal(signal.SIGKILL)
        self._timer = self._context.loop.call_later(SURVIVAL_S, self._survives)

    def _survives(self) -> None:
        """Tell who stops it that this may take for ever: nobody else is to wait for that."""
        assert self._process is not None
        if self._process.has_ended:
            # How is about to be told, by a keeper that has many to collect.
            self._timer = self._context.loop.call_later(SURVIVAL_S, self._survives)
            return
        pid = self._process.pid
        stat = read_stat(pid)
        how = f"state {stat.state} in ps(1)" if stat is not None else "gone, but not collected"
        text = f"{self.request.id} does not end: its process {pid} survives SIGKILL ({how})"
        self._waiters.tell_survives(StateError(text))

    def _died(self, code: int | None) -> None:
        self._process = None
        self._cancel_timer()
        self._stop_probing()
        if self.request.among:
            strays.kill_members(self.request.cgroup_procs)
        self._output.process_ended()
        self._tell_oom()
        self._end_oom_watch()
        before = self.status
        self.status = transition.died(before, self.request, code, oom_count=self._oom_count())
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
        self._save_last()
        self._output.finish()
        self._context.emit(event, self.status, {})
        self._waiters.tell_ended(self.status)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- parts

    def _start_probing(self) -> None:
        health = self.request.health
        if health is None or self._process is None or self.status.paused:
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
            self._save(transition.judged(before, self.request, state, output))
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

    def _save_last(self) -> None:
        """Keep how it has ended: for after a reboot, and until it is removed."""
        with suppress(OSError):  # its folder has just gone, or the disk is full
            status.write_last(self._state_folder, self.status)

    def _watch_oom(self, known: int) -> None:
        """Tell of each kill beyond the *known* number of them."""
        self._end_oom_watch()
        self._ooms = known
        self._end_oom_watch = self._context.oom.watch(self.request.oom_files, self._tell_oom)

    def _tell_oom(self) -> None:
        count = self._oom_count()
        if count > self._ooms:
            kills, self._ooms = count - self._ooms, count
            self._context.emit("oom", self.status, {"kills": kills})

    def _oom_count(self) -> int:
        return sum(map(exits.oom_kills, self.request.oom_files))

    def _save(self, changed: Status) -> None:
        """Make *changed* the status, on disk too.

        A full disk does not stop a container from being kept; readers see the past until the
        next transition.
        """
        self.status = changed
        with suppress(OSError):
            status.write(self._folder, changed)
