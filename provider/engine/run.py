"""The walk through a plan: in parallel where it can be, in order where it must be.

One thread, the caller's, decides everything: what is ready, what is told. A few workers perform;
waits for health have threads of their own, so that they hold up nobody but those that asked for
them. All of them only ever send messages back. What is written down of it is for those to say who
have such a walk: `provider.engine.apply`, and `provider.engine.boot`, which writes nothing.
"""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from provider.engine.context import ApplyContext, fixed_addresses
from provider.engine.crew import Crew, Message
from provider.engine.interrupt import Interrupt
from provider.engine.observe import by_kind
from provider.engine.ports import Context, CutShortError, Driver, Outcome, UnsettledError
from provider.engine.step import error_code, initial_facts, missing, settle_time, settles
from provider.engine.walk import Walk
from provider.errors import ApplyError
from provider.model.events import ActionEvent, Phase
from provider.model.ids import InstanceId, Kind
from provider.model.plan import Action, Need, Plan, Verb
from provider.model.resource import Condition, Desired, World
from provider.model.units import format_duration
from provider.planning.decide import refine
from provider.planning.report import Failure, Fate, Result

Emit = Callable[[ActionEvent], None]


WORKERS = 8
HEALTH_TIMEOUT_S = 60.0


class _Performing(NamedTuple):
    action: Action


class _Settling(NamedTuple):
    action: Action


class _Awaiting(NamedTuple):
    need: Need


_INTERRUPT = "interrupt"
_INTERRUPTED = str(CutShortError())
_NOT_AWAITED = "it was begun, but nobody waited for what came of it"

_AWAITED = {
    Kind.CONTAINER: "until it is healthy",
    Kind.SERVICE: "until it is healthy",
    Kind.JOB: "until it has completed",
}


class Run:
    """One walk; what comes of it is in *results*. Those who have one say what it does."""

    def __init__(
        self,
        plan: Plan,
        desired: Desired,
        world: World,
        drivers: Sequence[Driver],
        *,
        run_id: str,
        on_failure: str = "continue",
        workers: int = WORKERS,
        health_timeout_s: float = HEALTH_TIMEOUT_S,
        emit: Emit,
        interrupt: Interrupt | None = None,
    ) -> None:
        """Prepare to carry out *plan*; see `provider.engine.apply.ApplyOptions`."""
        self.plan, self.emit = plan, emit
        self.on_failure, self.health_timeout_s = on_failure, health_timeout_s
        self.driver_of = by_kind(drivers)
        self.resources = {resource.id: resource for resource in desired.resources}
        going = {action.id for action in plan if action.verb is Verb.DELETE}
        self.facts = initial_facts(world, going)
        self.crew = Crew(workers)
        addresses = fixed_addresses(desired, world, going)
        self.context = ApplyContext(run_id, desired, self.facts, self.crew.tell, addresses)
        self.walk = Walk(plan.actions)
        self.actions = {action.id: action for action in plan}
        self.results: dict[InstanceId, Result] = {}
        self.object_ids: dict[InstanceId, str] = {}
        self.began: dict[InstanceId, float] = {}
        self.deadlines: dict[Need, float] = {}
        self.interrupted = False
        if interrupt is not None:
            interrupt.connect(lambda: self.crew.tell(_INTERRUPT, "a stop was asked for"))

    # -- what is done, and written down

    def begins(self, action: Action) -> None:
        """Take note that *action* is about to be performed."""

    def act(self, action: Action, context: Context) -> Outcome:
        """Perform *action*; called by a worker.

        Raises:
            ApplyError: it failed.
        """
        return self.driver_of[action.id.resource.kind].perform(action, context)

    def prove(self, action: Action, context: Context, deadline: float) -> Outcome | None:
        """Wait for what *action* has started to be as it should; called by a worker.

        Raises:
            ApplyError: it is not by *deadline*, of ``time.monotonic()``.
        """
        return self.driver_of[action.id.resource.kind].settle(action, context, deadline)

    def was_performed(self, action: Action, outcome: Outcome) -> None:
        """Take note that *action* was performed; it may have to settle."""

    def has_settled(self, action: Action, outcome: Outcome | None) -> None:
        """Take note that what *action* started is as it should be."""

    def has_failed(self, action: Action, error: ApplyError, *, stage: str) -> None:
        """Take note that *action* has failed."""

    # -- the walk

    def go(self) -> Exception | None:
        """Walk until everything has ended; returns an unexpected error, which stops the walk.

        What goes wrong in this thread ends it at once, but not before all that is at work has
        ended: the caller lets go of the lock.
        """
        try:
            return self._walk()
        except Exception:
            self.context.stopping.set()
            while self.crew.is_at_work:
                self.crew.hear(None)
            raise

    def _walk(self) -> Exception | None:
        bug: Exception | None = None
        while True:
            self._dispatch()
            if self.walk.is_over:
                return bug
            message = self.crew.hear(self._patience())
            if message is None:
                self._expire()
            elif message.about is _INTERRUPT:
                self.interrupted = True
                self._stop(_INTERRUPTED)
            elif message.news is not None:
                self._tell(message.about, Phase.PROGRESS, message.news)
            elif message.error is None or isinstance(message.error, ApplyError):
                self._handle(message)
            elif isinstance(message.error, Exception):
                bug = bug or message.error
                self._stop("an unexpected error stopped the apply")
                self._drop(message)
            else:
                raise message.error

    def _dispatch(self) -> None:
        """Begin what can begin and has somebody to do it."""
        while self.crew.is_free and (action := self.walk.take_ready()):
            self._start(action)
        for need in self.walk.take_waits():
            self._await(need)
        for instance, reason in self.walk.take_skipped():
            failure = Failure("skipped", reason)
            self.results[instance] = Result(
                self.actions[instance], Fate.SKIPPED, failure, begun=False
            )
            self._tell(instance, Phase.SKIPPED, reason)

    def _start(self, planned: Action) -> None:
        """Bind what was unknown, and have the action performed unless nothing is left to do."""
        resource = self.resources.get(planned.id.resource)
        action = planned if resource is None else refine(planned, resource, self.facts)
        self.actions[action.id] = action
        if action.verb is Verb.NOOP:
            self.results[action.id] = Result(action)
            self._tell(action.id, Phase.OK, action.reason)
            self.walk.performed(action.id, settles=False)
            return
        self.began[action.id] = time.monotonic()
        self._tell(action.id, Phase.STARTED, action.reason)
        fault = missing(action)
        if fault:
            self._fail(action, ApplyError(fault), stage="perform")
            return
        self.begins(action)
        context = self.context.of(action.id, self.object_ids.get(action.id, ""))
        self.crew.work(_Performing(action), lambda: self.act(action, context))

    def _await(self, need: Need) -> None:
        if self.walk.is_own(need):
            if need.timeout_s is not None:
                self.deadlines[need] = time.monotonic() + need.timeout_s
            return
        timeout_s = need.timeout_s
        if timeout_s is None:
            timeout_s = settle_time(self.actions[need.target], self.health_timeout_s)
        self._look(need, time.monotonic() + timeout_s)

    def _look(self, need: Need, deadline: float) -> None:
        driver = self.driver_of[need.target.resource.kind]
        self.crew.wait(
            _Awaiting(need),
            lambda: driver.await_condition(need.target, need.condition, self.context, deadline),
        )

    def _patience(self) -> float | None:
        """Return the seconds until the next deadline; None without one."""
        if not self.deadlines:
            return None
        return max(0.0, min(self.deadlines.values()) - time.monotonic())

    def _expire(self) -> None:
        now = time.monotonic()
        for need in [need for need, deadline in self.deadlines.items() if deadline <= now]:
            del self.deadlines[need]
            if need.condition is Condition.HEALTHY:
                self._look(need, now)  # once, to tell what its last probe said
                continue
            within = format_duration(need.timeout_s or 0.0)
            self.walk.broken(need, f"{need.target} has not {need.condition} within {within}")

    def _handle(self, message: Message) -> None:
        about, error = message.about, message.error
        if isinstance(about, _Performing):
            self.crew.done()
        if isinstance(about, _Awaiting):
            if error is not None:
                self.walk.broken(about.need, f"{about.need.target}: {error}")
            elif not self.walk.is_own(about.need):  # which is met when it has settled, and now will
                self.walk.met(about.need)
        elif isinstance(error, ApplyError):
            stage = "perform" if isinstance(about, _Performing) else "settle"
            self._fail(about.action, error, stage=stage)
        elif isinstance(about, _Performing):
            self._performed(about.action, message.result)
        else:
            self._settled(about.action, message.result)

    def _drop(self, message: Message) -> None:
        """Let go of what an unexpected error ended; the journal keeps it for the next run."""
        if isinstance(message.about, _Awaiting):
            self.walk.broken(message.about.need, repr(message.error))
        else:
            self._tell(message.about.action.id, Phase.FAILED, repr(message.error))
            self.walk.failed(message.about.action.id)

    def _stop(self, reason: str) -> None:
        self.context.stopping.set()
        self.walk.stop(reason)

    # -- endings of actions

    def _performed(self, action: Action, outcome: Outcome) -> None:
        self.was_performed(action, outcome)
        if not settles(action):
            self._succeed(action)
            self.walk.performed(action.id, settles=False)
            return
        self.walk.performed(action.id, settles=True)
        self._tell(action.id, Phase.WAITING, _AWAITED[action.id.resource.kind])
        deadline = time.monotonic() + settle_time(action, self.health_timeout_s)
        context = self.context.of(action.id, outcome.object_id)
        self.crew.wait(_Settling(action), lambda: self.prove(action, context, deadline))

    def _settled(self, action: Action, outcome: Outcome | None) -> None:
        self.has_settled(action, outcome)
        self._succeed(action)
        self.walk.settled(action.id)
        self._forget_deadlines(action.id)

    def _succeed(self, action: Action) -> None:
        duration = self._duration(action)
        self.results[action.id] = Result(action, duration_s=duration)
        self._tell(action.id, Phase.OK, duration_s=duration)

    def _fail(self, action: Action, error: ApplyError, *, stage: str) -> None:
        self.note_failure(action, error, stage=stage)
        self.walk.failed(action.id)
        self._forget_deadlines(action.id)
        if self.on_failure == "stop":
            self.walk.stop(f"nothing new is begun after {action.id} failed")

    def note_failure(self, action: Action, error: ApplyError, *, stage: str) -> None:
        """Take note that an action has failed, in its *stage*: perform, settle or finish."""
        log_tail = error.log_tail if isinstance(error, UnsettledError) else ()
        failure = Failure(
            code=error_code(error),
            message=str(error),
            retryable=error.retryable,
            hint=error.hint,
            log_tail=log_tail,
        )
        duration = self._duration(action)
        if isinstance(error, CutShortError):
            # It may well have become healthy; nobody waited for it.
            words = _INTERRUPTED if stage == "perform" else f"{_INTERRUPTED}; {_NOT_AWAITED}"
            self.results[action.id] = Result(
                action, Fate.SKIPPED, Failure("skipped", words), duration
            )
            self._tell(action.id, Phase.SKIPPED, words, duration_s=duration)
            return
        self.results[action.id] = Result(action, Fate.FAILED, failure, duration)
        self._tell(action.id, Phase.FAILED, str(error), duration_s=duration, log_tail=log_tail)
        self.has_failed(action, error, stage=stage)

    # -- small things

    def _forget_deadlines(self, instance: InstanceId) -> None:
        for need in [need for need in self.deadlines if need.target == instance]:
            del self.deadlines[need]

    def _duration(self, action: Action) -> float:
        return time.monotonic() - self.began.get(action.id, time.monotonic())

    def _tell(
        self,
        instance: InstanceId,
        phase: Phase,
        message: str = "",
        *,
        duration_s: float = 0.0,
        log_tail: tuple[str, ...] = (),
    ) -> None:
        verb = self.actions[instance].verb
        self.emit(ActionEvent(instance, verb, phase, message, duration_s, log_tail))
