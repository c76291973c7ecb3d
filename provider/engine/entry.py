"""What the ledger says after an action: pure functions from outcome to entry."""

from collections.abc import Container
from dataclasses import replace

from provider.engine.ledger import Entry
from provider.engine.ports import Outcome
from provider.engine.step import settles
from provider.model.ids import InstanceId
from provider.model.plan import Action, Consequence, Verb
from provider.model.resource import Attempt, Observed
from provider.model.tree import Tree


def performed_entry(
    action: Action,
    outcome: Outcome,
    before: Entry | None,
    apply_id: str,
) -> Entry:
    """Return the entry of an action that was performed.

    What has to prove itself is not done when it was started: until it has settled, its entry says
    so, and what it replaces is a leftover that may have to serve on.
    """
    fresh = before is None or action.verb in (Verb.CREATE, Verb.RUN)
    anew = fresh or action.consequence.rank >= Consequence.RESTART.rank
    attempt, before_it = None, set[str]()
    if settles(action):
        attempt = Attempt(action.verb, action.consequence, stage="settle", intended=action.after)
        if action.verb is not Verb.RUN:  # a Job's former container was removed before its run
            before_it = {*action.leftovers, action.object_id} - {"", outcome.object_id}
    return Entry(
        id=action.id,
        object_id=outcome.object_id,
        effective=outcome.effective,
        provenance=action.provenance,
        record=outcome.record,
        needs=lasting_needs(action),
        generation=apply_id if anew or before is None else before.generation,
        stamp=apply_id,
        attempt=attempt,
        leftovers=tuple(sorted(before_it)),
    )


def settled_entry(entry: Entry, outcome: Outcome | None) -> Entry:
    """Return the entry of an action that has settled; *outcome* if the record changed."""
    settled = replace(entry, attempt=None, leftovers=())
    if outcome is None:
        return settled
    return replace(settled, effective=outcome.effective, record=outcome.record)


def failed_entry(
    action: Action, before: Entry | None, *, object_id: str, stage: str, error: str, apply_id: str
) -> Entry:
    """Return the entry of an action that failed: as before, and what was tried.

    *object_id* is what was being made; it becomes a leftover for the next apply to remove.
    """
    entry = before or Entry(action.id)
    made = {*entry.leftovers, object_id} - {"", entry.object_id}
    return replace(
        entry,
        stamp=apply_id,
        attempt=Attempt(
            action.verb,
            action.consequence,
            stage=stage,
            error=error,
            intended=action.after,
            object_id=object_id,
        ),
        leftovers=tuple(sorted(made)),
    )


def object_of_run(entry: Entry, there: Container[str]) -> str:
    """Return the object of the Job's interrupted run; empty if it is not among those *there*.

    An attempt recorded by a version before has no id: then it is a leftover, or on record.
    """
    attempt = entry.attempt
    assert attempt is not None
    named = (attempt.object_id,) if attempt.object_id else (*entry.leftovers, entry.object_id)
    return next((object_id for object_id in named if object_id in there), "")


def ended_job(entry: Entry, object_id: str, exit_code: int, how: str, status: Tree) -> Observed:
    """Return the Job of *entry*, whose interrupted run ended meanwhile, *how* in words.

    One that ended well has done what was intended. *object_id* is the run's, *status* is what
    else that tells.
    """
    attempt = entry.attempt
    assert attempt is not None
    if exit_code:
        return replace(entry.observed(status=status), attempt=replace(attempt, error=how))
    result = {"state": "succeeded", "exitCode": 0, "attempts": 1}
    return replace(
        entry.observed(status=status, record={"result": result}),
        object_id=object_id,
        effective=attempt.intended,
        generation=object_id,  # as good a name of the run as the apply's
        attempt=None,
        leftovers=tuple(i for i in entry.leftovers if i != object_id),
    )


def found_entry(entry: Entry, found: Observed) -> Entry:
    """Return *entry* with what was *found* out about its interrupted run."""
    return replace(
        entry,
        object_id=found.object_id,
        effective=found.effective,
        record=found.record,
        generation=found.generation,
        attempt=found.attempt,
        leftovers=found.leftovers,
    )


def lasting_needs(action: Action) -> tuple[InstanceId, ...]:
    """Return what *action* builds upon, and does not just wait for in an apply."""
    return tuple(need.target for need in action.needs if need.lasts)
