"""What a run does about an apply before it that was cut off: ledger and history catch up."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from provider.engine.entry import found_entry
from provider.engine.journal import Interrupted, Journal, Step, fold
from provider.engine.ledger import Entry, Ledger
from provider.engine.revision import Revisions
from provider.model.ids import InstanceId
from provider.model.plan import Verb
from provider.model.resource import Observed
from provider.model.tree import Tree
from provider.planning.report import Fate


def take_up(state: Path, project: str, observed: Iterable[Observed]) -> None:
    """Move what is known of an interrupted run into ledger and history. Idempotent.

    Its journal tells, and so do the objects *observed*, until a reboot: they know how a Job ended,
    and whether a delete that failed has done any harm.
    The caller holds the project's lock. Once an action was started, there is a revision.
    """
    _close_journal(state, project)
    _write_ends(Ledger(state, project), observed)


def _write_ends(ledger: Ledger, observed: Iterable[Observed]) -> None:
    """Make durable how Jobs ended that nobody waited for, and which deletes left all as it was."""
    recorded = [(ledger.get(found.id), found) for found in observed if not found.is_stray]
    ended = [
        found_entry(entry, found)
        for entry, found in recorded
        if entry and entry.attempt and entry.attempt != found.attempt
    ]
    for entry in ended:
        ledger.write(entry)
    ledger.sync(entry.id for entry in ended)


def _close_journal(state: Path, project: str) -> None:
    journal = Journal(state, project)
    interrupted = journal.read()
    if interrupted is None:
        return
    ledger = Ledger(state, project)
    before = ledger.read()
    after = fold(before, interrupted)
    for instance in before.keys() - after.keys():
        ledger.delete(instance)
    suspects = [entry for instance, entry in after.items() if entry != before.get(instance)]
    for entry in suspects:
        ledger.write(entry)
    # What was done is in the ledger, but whoever did it had no time to make that durable.
    ledger.sync({*(step.id for step in interrupted.started), *(entry.id for entry in suspects)})
    revision, revisions = interrupted.revision, Revisions(state, project)
    if revision is not None and interrupted.started and not revisions.has(revision.number):
        revisions.write(replace(revision, summary=_summary(interrupted, after)))
    journal.end()


def _summary(interrupted: Interrupted, entries: Mapping[InstanceId, Entry]) -> Tree:
    """Return what had been started: done, by verb, or failed, or cut off."""
    return dict(
        Counter(
            _fate(step, entries.get(step.id), interrupted.apply_id) for step in interrupted.started
        )
    )


def _fate(step: Step, entry: Entry | None, apply_id: str) -> str:
    if entry is None:
        return step.verb if step.verb == Verb.DELETE else str(Fate.SKIPPED)
    if entry.stamp == apply_id and entry.attempt is None:
        return step.verb
    failed = entry.stamp == apply_id and entry.attempt is not None and entry.attempt.error
    return str(Fate.FAILED if failed else Fate.SKIPPED)
