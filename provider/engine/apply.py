"""Carry out a plan: in parallel where it can be, in order where it must be.

One thread, the caller's, decides everything: what is ready, what is written down, what is told.
A few workers perform; waits for health have threads of their own, so that they hold up nobody
but those that asked for them. All of them only ever send messages back.

The order of writing is what makes kill -9 harmless at any point: journal with the names of all
new objects (durable) -> mark that an action was started -> effect -> ledger entry -> ledger
durable -> revision (durable) -> journal removed. What is found between the first and the last is
taken up by the next run (provider.engine.recovery). A transaction that undoes a failed set belongs
between the walk and ``_close``; the journal will have to say for it what was before each step, of
which it has only what was intended.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from provider.engine.books import Books
from provider.engine.context import ApplyContext, fixed_addresses
from provider.engine.crew import Crew, Message
from provider.engine.interrupt import Interrupt
from provider.engine.journal import Journal
from provider.engine.observe import by_kind
from provider.engine.ports import CutShortError, Driver, Outcome, UnsettledError
from provider.engine.recovery import take_up
from provider.engine.revision import Revision, Revisions
from provider.engine.step import (
    error_code,
    initial_facts,
    makes_object,
    missing,
    settle_time,
    settles,
)
from provider.engine.storage import UnwritableError
from provider.engine.walk import Walk
from provider.errors import ApplyError, RefusedError
from provider.model.events import ActionEvent, Phase
from provider.model.ids import InstanceId, Kind
from provider.model.plan import Action, Need, Plan, Verb
from provider.model.resource import Condition, Desired, World
from provider.model.units import format_duration
from provider.planning.decide import refine
from provider.planning.report import Failure, Fate, Report, Result
from runtime.record import dataclass

Emit = Callable[[ActionEvent], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyOptions:
    """How to go about an apply."""

    who: str
    """For the revision: ``root@host``."""
    on_failure: str = "continue"
    """``continue``: a failed step stops only what depends on it; ``stop``: nothing new begins."""
    workers: int = 8
    health_timeout_s: float = 60.0
    """What a container may take to become healthy, on top of what its health check says."""
    new_id: Callable[[], str] = lambda: os.urandom(6).hex()
    """Makes names of objects and of the apply: unique, DNS labels of at most 12 characters."""
    now: Callable[[], float] = time.time


class _Performing(NamedTuple):
    action: Action


class _Settling(NamedTuple):
    action: Action


class _Awaiting(NamedTuple):
    need: Need


_INTERRUPT = "interrupt"
_INTERRUPTED = str(CutShortError())
_NOT_AWAITED = "it was begun, but nobody waited for what came of it"
_STOPPED = "what the apply does could not be written down any more"
_NOT_WRITTEN = "how it ended could not be written down"

_AWAITED = {
    Kind.CONTAINER: "until it is healthy",
    Kind.SERVICE: "until it is healthy",
    Kind.JOB: "until it has completed",
}


def apply(
    plan: Plan,
    desired: Desired,
    world: World,
    drivers: Sequence[Driver],
    state: Path,
    *,
    options: ApplyOptions,
    emit: Emit = lambda event: None,
    interrupt: Interrupt | None = None,
) -> Report:
    """Carry out *plan* and return what became of each action; failures are in the report.

    The caller holds the project's lock since before *world* was observed. A plan without
    pending actions changes nothing, on disk neither, except that an interrupted run is taken up.
    *emit* is called in the caller's thread only. An *interrupt* ends it in order:
    running steps are waited for, the rest is skipped. What leaves through any other exception, a
    bug or KeyboardInterrupt, leaves the journal behind for the next run to take up; so does a
    report with errors, of a run whose own files could not be written to the end. Except after
    KeyboardInterrupt, nothing is at work any more when this returns or raises.

    Raises:
        RefusedError: a guard or preflight refused the plan.
        UnwritableError: the journal could not be written; nothing was done.
    """
    if plan.refusals:
        raise RefusedError("\n".join(plan.refusals))
    revisions = Revisions(state, plan.project)
    take_up(state, plan.project, world.observed)
    if plan.is_empty:
        last = revisions.last()
        results = tuple(Result(action) for action in plan)
        return Report(
            project=plan.project,
            results=results,
            revision=last.number if last else None,
            kept=plan.kept,
            warnings=plan.warnings,
        )
    run = _Run(plan, desired, world, drivers, state, options, emit)
    if interrupt is not None:
        interrupt.connect(lambda: run.crew.tell(_INTERRUPT, "a stop was asked for"))
    return run.run(revisions)


class _Run:
    """One apply, from journal to revision."""

    def __init__(
        self,
        plan: Plan,
        desired: Desired,
        world: World,
        drivers: Sequence[Driver],
        state: Path,
        options: ApplyOptions,
        emit: Emit,
    ) -> None:
        self.plan, self.desired, self.options, self.emit = plan, desired, options, emit
        self.drivers, self.driver_of = drivers, by_kind(drivers)
        self.resources = {resource.id: resource for resource in desired.resources}
        self.journal = Journal(state, plan.project)
        self.apply_id = options.new_id()
        going = {action.id for action in plan if action.verb is Verb.DELETE}
        self.facts = initial_facts(world, going)
        self.books = Books(state, plan.project, self.facts, apply_id=self.apply_id)
        self.crew = Crew(options.workers)
        addresses = fixed_addresses(desired, world, going)
        self.context = ApplyContext(self.apply_id, desired, self.facts, self.crew.tell, addresses)
        self.walk = Walk(plan.actions)
        self.actions = {action.id: action for action in plan}
        self.results: dict[InstanceId, Result] = {}
        self.object_ids: dict[InstanceId, str] = {}
        self.began: dict[InstanceId, float] = {}
        self.deadlines: dict[Need, float] = {}
        self.interrupted = False

    def run(self, revisions: Revisions) -> Report:
        """Do it all."""
        revision = None
        try:
            revision = self._open(revisions.next_number)
            bug = self._go()
            self.context.stopping.set()  # ends waits that nobody is interested in any more
            if bug is not None:
                raise bug
            for driver in self.drivers:
                for instance, error in driver.finish(self.context).items():
                    self._note_failure(self.actions[instance], error, stage="finish")
            return self._close(revisions, revision)
        except UnwritableError as error:
            if revision is None:
                raise
            return self._cut_off(revision, error)
        finally:
            self.crew.dismiss()
            self.journal.close()

    # -- before and after

    def _open(self, number: int) -> Revision:
        """Write down what is about to be done; returns the revision, should it be cut off."""
        for action in self.plan.pending:
            if makes_object(action):
                self.object_ids[action.id] = self.options.new_id()
        revision = Revision(
            number=number,
            when=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.options.now())),
            who=self.options.who,
            sources=self.desired.sources,
            desired=self.desired.fingerprint,
            result="interrupted",
        )
        self.journal.begin(self.apply_id, self.plan.pending, self.object_ids, revision)
        for driver in self.drivers:
            driver.prepare(self.context)
        return revision

    def _close(self, revisions: Revisions, revision: Revision) -> Report:
        """Make the ledger durable, write the revision, let go of the journal."""
        self.books.sync()
        report = self._report(revision)
        result = "interrupted" if self.interrupted else "failed" if report.failed else "ok"
        revisions.write(replace(revision, result=result, summary=report.summary))
        self.journal.end()
        return report

    def _cut_off(self, revision: Revision, error: UnwritableError) -> Report:
        """Return what was done until *error*; the next run takes it up from the journal."""
        for action in self.plan.pending:
            if action.id not in self.results:
                begun = action.id in self.began
                words = _NOT_WRITTEN if begun else _STOPPED
                failure = Failure("skipped", words)
                self.results[action.id] = Result(
                    self.actions[action.id], Fate.SKIPPED, failure, begun=begun
                )
        failure = Failure(error_code(error), str(error), retryable=True, hint=error.hint)
        return self._report(revision, errors=(failure,))

    def _report(self, revision: Revision, errors: tuple[Failure, ...] = ()) -> Report:
        return Report(
            project=self.plan.project,
            results=tuple(self.results.get(a.id) or Result(a) for a in self.plan),
            revision=revision.number,
            interrupted=self.interrupted,
            kept=self.plan.kept,
            warnings=self.plan.warnings,
            errors=errors,
        )

    # -- the walk

    def _go(self) -> Exception | None:
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
        self.journal.started(action)
        driver = self.driver_of[action.id.resource.kind]
        context = self.context.of(action.id, self.object_ids.get(action.id, ""))
        self.crew.work(_Performing(action), lambda: driver.perform(action, context))

    def _await(self, need: Need) -> None:
        if self.walk.is_own(need):
            if need.timeout_s is not None:
                self.deadlines[need] = time.monotonic() + need.timeout_s
            return
        timeout_s = need.timeout_s
        if timeout_s is None:
            timeout_s = settle_time(self.actions[need.target], self.options.health_timeout_s)
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
        self.books.performed(action, outcome)
        if not settles(action):
            self._succeed(action)
            self.walk.performed(action.id, settles=False)
            return
        self.walk.performed(action.id, settles=True)
        self._tell(action.id, Phase.WAITING, _AWAITED[action.id.resource.kind])
        driver = self.driver_of[action.id.resource.kind]
        deadline = time.monotonic() + settle_time(action, self.options.health_timeout_s)
        context = self.context.of(action.id, outcome.object_id)
        self.crew.wait(_Settling(action), lambda: driver.settle(action, context, deadline))

    def _settled(self, action: Action, outcome: Outcome | None) -> None:
        self.books.settled(action, outcome)
        self._succeed(action)
        self.walk.settled(action.id)
        self._forget_deadlines(action.id)

    def _succeed(self, action: Action) -> None:
        duration = self._duration(action)
        self.results[action.id] = Result(action, duration_s=duration)
        self._tell(action.id, Phase.OK, duration_s=duration)

    def _fail(self, action: Action, error: ApplyError, *, stage: str) -> None:
        self._note_failure(action, error, stage=stage)
        self.walk.failed(action.id)
        self._forget_deadlines(action.id)
        if self.options.on_failure == "stop":
            self.walk.stop(f"nothing new is begun after {action.id} failed")

    def _note_failure(self, action: Action, error: ApplyError, *, stage: str) -> None:
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
        made = self.object_ids.get(action.id, "") if stage == "perform" else ""
        self.books.failed(action, object_id=made, stage=stage, error=str(error))

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
