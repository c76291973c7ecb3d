"""One consistent picture of the hosts: ledger, journal and kernel, changing nothing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from provider.engine.journal import Journal, fold
from provider.engine.ledger import Entry, Ledger
from provider.engine.lock import look
from provider.engine.ports import Driver, Observer
from provider.model.ids import InstanceId, Kind, ResourceId
from provider.model.plan import Plan, Verb
from provider.model.resource import Desired, Observed, Resource, World

_LOOKS = 3
"""So often the ledger is read anew because an apply began or ended meanwhile."""


def read_entries(state: Path, project: str) -> dict[InstanceId, Entry]:
    """Return the ledger with what an interrupted apply left marked in it.

    For who holds the project's lock, and for when nobody does.
    """
    return fold(Ledger(state, project).read(), Journal(state, project).read())


def observe(
    state: Path,
    project: str,
    observers: Sequence[Observer],
    *,
    desired: Desired | None = None,
    held: bool = False,
) -> World:
    """Return what is there of *project*, and what *desired* needs to know of the hosts.

    Waits for no lock; what it may write are notes in folders that are there, to save work the next
    time. Each observer is asked once. *held* says that the caller holds the project's lock. While
    somebody else does, the journal is work in progress, and what is changed is seen as it is at
    the moment.
    """
    entries = read_entries(state, project) if held else _entries_at_rest(state, project)
    observed: list[Observed] = []
    for observer in observers:
        own = _of_kinds(entries, observer.kinds)
        observed.extend(_unharmed(found) for found in observer.observe(project, own))
    resources = desired.resources if desired else ()
    return World(
        observed=tuple(observed),
        foreign=tuple(_foreign(state, project, resources)),
        inputs=_inputs(resources, observers),
    )


def _entries_at_rest(state: Path, project: str) -> dict[InstanceId, Entry]:
    """Return the entries as no apply found at work has them; who goes on and on is at work."""
    for _ in range(_LOOKS):
        before = look(state, project)
        if before.is_locked:
            break
        entries = read_entries(state, project)
        if look(state, project) == before:
            return entries
    return {i: _under_way(e) for i, e in Ledger(state, project).read().items()}


def _under_way(entry: Entry) -> Entry:
    """Return *entry* as it looks while the apply that is at work waits for it to settle."""
    attempt = entry.attempt
    if attempt is None or attempt.error or attempt.verb == Verb.RUN:
        return entry
    return replace(entry, attempt=None)


def _unharmed(found: Observed) -> Observed:
    """Return *found* without the delete that failed, or was refused, and left it as it was."""
    attempt = found.attempt
    if attempt is None or attempt.verb != Verb.DELETE or not attempt.error:
        return found
    if found.effective is None or found.deviations:
        return found
    return replace(found, attempt=None)


def preflight(plan: Plan, observers: Sequence[Observer]) -> Plan:
    """Return *plan* with what the observers find to be in its way. Read-only."""
    refusals, warnings = list(plan.refusals), list(plan.warnings)
    for observer in observers:
        actions = [
            action
            for action in plan
            if action.verb is not Verb.NOOP and action.id.resource.kind in observer.kinds
        ]
        for finding in observer.preflight(actions):
            text = f"{finding.id}: {finding.message}" if finding.id else finding.message
            (refusals if finding.refusal else warnings).append(text)
    return replace(plan, refusals=tuple(refusals), warnings=tuple(dict.fromkeys(warnings)))


def by_kind(drivers: Iterable[Driver]) -> Mapping[Kind, Driver]:
    """Return who looks after which kind."""
    return {kind: driver for driver in drivers for kind in driver.kinds}


def _of_kinds(
    entries: Mapping[InstanceId, Entry], kinds: frozenset[Kind]
) -> dict[InstanceId, Entry]:
    return {i: entry for i, entry in entries.items() if i.resource.kind in kinds}


def _foreign(state: Path, project: str, resources: Iterable[Resource]) -> Iterable[Observed]:
    """Yield what the resources refer to in other projects, as recorded there."""
    wanted: dict[str, set[ResourceId]] = {}
    for resource in resources:
        for edge in resource.dependencies:
            if edge.target.project != project:
                wanted.setdefault(edge.target.project, set()).add(edge.target)
    for other, targets in sorted(wanted.items()):
        for entry in Ledger(state, other).read().values():
            if entry.id.resource in targets and entry.effective is not None:
                yield entry.observed()


def _inputs(
    resources: Iterable[Resource], observers: Sequence[Observer]
) -> dict[ResourceId, dict[str, object]]:
    owner = {kind: observer for observer in observers for kind in observer.kinds}
    found = {}
    for resource in resources:
        observer = owner.get(resource.id.kind)
        facts = observer.inputs(resource) if observer else {}
        if facts:
            found[resource.id] = facts
    return found
