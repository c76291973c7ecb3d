"""Carry out a plan, and write it down: `provider.engine.run` walks.

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

from provider.engine.books import Books
from provider.engine.interrupt import Interrupt
from provider.engine.journal import Journal
from provider.engine.ports import Driver, Outcome
from provider.engine.recovery import take_up
from provider.engine.revision import Revision, Revisions
from provider.engine.run import HEALTH_TIMEOUT_S, WORKERS, Emit, Run
from provider.engine.step import error_code, makes_object
from provider.engine.storage import UnwritableError
from provider.errors import ApplyError, RefusedError
from provider.model.plan import Action, Plan
from provider.model.resource import Desired, World
from provider.planning.report import Failure, Fate, Report, Result
from runtime.record import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyOptions:
    """How to go about an apply."""

    who: str
    """For the revision: ``root@host``."""
    on_failure: str = "continue"
    """``continue``: a failed step stops only what depends on it; ``stop``: nothing new begins."""
    workers: int = WORKERS
    health_timeout_s: float = HEALTH_TIMEOUT_S
    """What a container may take to become healthy, on top of what its health check says."""
    new_id: Callable[[], str] = lambda: os.urandom(6).hex()
    """Makes names of objects and of the apply: unique, DNS labels of at most 12 characters."""
    now: Callable[[], float] = time.time


_STOPPED = "what the apply does could not be written down any more"
_NOT_WRITTEN = "how it ended could not be written down"


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
    return _Apply(plan, desired, world, drivers, state, options, emit, interrupt).run(revisions)


class _Apply(Run):
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
        interrupt: Interrupt | None,
    ) -> None:
        self.apply_id = options.new_id()
        super().__init__(
            plan,
            desired,
            world,
            drivers,
            run_id=self.apply_id,
            on_failure=options.on_failure,
            workers=options.workers,
            health_timeout_s=options.health_timeout_s,
            emit=emit,
            interrupt=interrupt,
        )
        self.drivers, self.desired, self.options = drivers, desired, options
        self.journal = Journal(state, plan.project)
        self.books = Books(state, plan.project, self.facts, apply_id=self.apply_id)

    def run(self, revisions: Revisions) -> Report:
        """Do it all."""
        revision = None
        try:
            revision = self._open(revisions.next_number)
            bug = self.go()
            self.context.stopping.set()  # ends waits that nobody is interested in any more
            if bug is not None:
                raise bug
            for driver in self.drivers:
                for instance, error in driver.finish(self.context).items():
                    self.note_failure(self.actions[instance], error, stage="finish")
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

    # -- what is written down

    def begins(self, action: Action) -> None:
        """Mark in the journal that *action* is about to be performed."""
        self.journal.started(action)

    def was_performed(self, action: Action, outcome: Outcome) -> None:
        """Write down that *action* was performed."""
        self.books.performed(action, outcome)

    def has_settled(self, action: Action, outcome: Outcome | None) -> None:
        """Write down that what *action* started is as it should be."""
        self.books.settled(action, outcome)

    def has_failed(self, action: Action, error: ApplyError, *, stage: str) -> None:
        """Write down that *action* has failed, and what it has left."""
        made = self.object_ids.get(action.id, "") if stage == "perform" else ""
        self.books.failed(action, object_id=made, stage=stage, error=str(error))
