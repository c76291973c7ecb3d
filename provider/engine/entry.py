"""What the ledger says after an action: pure functions from outcome to entry."""

from collections.abc import Collection
from dataclasses import replace

from provider.engine.ledger import Entry
from provider.engine.ports import Outcome
from provider.engine.step import settles
from provider.model.ids import InstanceId
from provider.model.plan import Action, Consequence, Verb
from provider.model.resource import Attempt


def performed_entry(
    action: Action,
    outcome: Outcome,
    before: Entry | None,
    apply_id: str,
    going: Collection[InstanceId],
) -> Entry:
    """Return the entry of an action that was performed.

    What has to prove itself is not done when it was started: until it has settled, its entry says
    so, and what it replaces is a leftover that may have to serve on. *going* are the instances
    this plan removes.
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
        needs=tuple(n.target for n in action.needs if _lasts(action, n.target, going)),
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
            action.verb, action.consequence, stage=stage, error=error, intended=action.after
        ),
        leftovers=tuple(sorted(made)),
    )


def _lasts(action: Action, target: InstanceId, going: Collection[InstanceId]) -> bool:
    """Return whether *target* is built upon, and not just waited for in this apply."""
    turn = target.resource == action.id.resource and action.id.index >= 0
    return not turn and target not in going
