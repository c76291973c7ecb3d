"""One instance: what is wanted against what was found, to one action. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from provider.model.ids import InstanceId, Kind
from provider.model.plan import UNKNOWN, Action, Consequence, Verb
from provider.model.resource import Observed, Resource
from provider.model.tree import Tree, join
from provider.planning.change import (
    Sources,
    changes_between,
    drift_change,
    renaming_changes,
    with_drift,
    worst,
)
from provider.planning.diff import REST, covers, differences, keep
from provider.planning.effective import bind, inherit_addresses, unknown_paths
from provider.planning.expand import is_ports
from provider.planning.facts import Facts
from provider.planning.options import PlanOptions
from provider.planning.rename import Renaming
from provider.planning.rules import consequence_of
from runtime.record import dataclass

ABSENT = "not there yet"
UNCHANGED = "as wanted"
INTERRUPTED = "left behind by an interrupted apply"
ADOPTED = "found in no ledger; adopted, with its data"

_IN_PLACE = frozenset({Kind.VOLUME, Kind.CONFIG, Kind.SECRET})
"""Kinds that are brought to a state in place, and never made anew for good measure."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One instance as it should be."""

    id: InstanceId
    resource: Resource
    tree: Tree
    """Effective; may hold UNKNOWN."""
    from_image: frozenset[str] = frozenset()

    @property
    def sources(self) -> Sources:
        """Who says what."""
        return Sources(self.resource, self.from_image, is_ports(self.id))


def decide(
    wanted: Wanted,
    found: Observed | None,
    *,
    options: PlanOptions,
    renamings: tuple[Renaming, ...] = (),
    former: InstanceId | None = None,
) -> Action:
    """Return the action, NOOP included, that brings *found* to *wanted*.

    *found* already has the new names in it: *renamings* are the places, *former* the identity
    it is recorded under if that is another one. A stray is taken over. The action has no needs
    yet.
    """
    if wanted.id.resource.kind is Kind.JOB and is_undecided(wanted, found, options):
        return _undecided(wanted, found)
    if found is not None and found.is_stray:
        return _adopt(wanted, found)
    if found is None or found.effective is None or _is_deleted(found):
        return _create(wanted, found)
    before = found.effective
    after, warnings = _wish(wanted, before, found)
    demands = [*_demands(wanted, found, options, former)]
    if after == before and not (demands or renamings or found.deviations):
        return _noop(wanted, found, before, warnings)
    changes, reasons = changes_between(before, after, wanted.sources)
    drift = tuple(
        drift_change(deviation, wanted.id.resource.kind, wanted.sources)
        for deviation in found.deviations
        if not covers(wanted.resource.ignore, deviation.path)
    )
    changes = with_drift(changes + renaming_changes(renamings, wanted.sources), drift)
    floor = _worst(consequence for consequence, _ in demands)
    why = [reason for _, reason in demands]
    why += [change.cause for change in changes if change.cause]
    why += reasons
    action = Action(
        id=wanted.id,
        verb=Verb.NOOP,
        reason="; ".join(dict.fromkeys(why)),
        changes=tuple(sorted(changes, key=lambda change: change.path)),
        before=before,
        after=after,
        object_id=found.object_id,
        leftovers=found.leftovers,
        unproven=found.attempt is not None and found.attempt.stage == "settle",
        floor=floor,
        renamed_from=former,
        record=found.record,
        origin=wanted.resource.origin,
        labels=dict(wanted.resource.labels),
        warnings=warnings,
    )
    weighed = _weigh(action)
    if weighed.verb is Verb.NOOP:
        return weighed
    return replace(weighed, provenance=wanted.sources.record())


def refine(action: Action, resource: Resource, facts: Facts) -> Action:
    """Return *action* with what was unknown bound to *facts*: possibly a NOOP after all.

    For use while a plan is applied, when all that the action needs is done.
    """
    if action.after is None or not unknown_paths(action.after):
        return action
    after, from_image = bind(action.after, action.id, facts)
    provenance = action.provenance | dict.fromkeys(from_image, "image")
    bound = replace(action, after=after, provenance=provenance)
    if action.before is None:
        return bound
    given = frozenset(path for path, source in provenance.items() if source == "image")
    changes, _ = changes_between(
        action.before, after, Sources(resource, given, is_ports(action.id))
    )
    lasting = tuple(change for change in action.changes if change.cause)
    merged = sorted(with_drift(changes, lasting), key=lambda change: change.path)
    return _weigh(replace(bound, changes=tuple(merged)))


def unfinished(found: Observed) -> tuple[Consequence, str] | None:
    """Return what it takes to get over an earlier attempt, and the reason in words."""
    attempt = found.attempt
    if attempt is None:
        return None
    reason = f"the last apply failed here: {attempt.error}" if attempt.error else INTERRUPTED
    in_place = found.id.resource.kind in _IN_PLACE or is_ports(found.id)
    if in_place or attempt.stage == "finish":
        return Consequence.LIVE, reason
    if attempt.verb == Verb.RUN:
        return Consequence.REPLACE, reason
    if attempt.stage == "settle":
        return Consequence.LIVE if _is_well(found) else Consequence.RESTART, reason
    if attempt.verb in (Verb.CREATE, Verb.DELETE):
        return Consequence.REPLACE, reason
    return Consequence(attempt.consequence), reason


def _is_deleted(found: Observed) -> bool:
    """Tell whether *found* is a volume whose deletion got as far as its data, and no further.

    Perhaps it was then to be made anew, and that did not get through either: a record is there
    before a creation only then.
    """
    deleted = found.attempt is not None and found.attempt.verb in (Verb.DELETE, Verb.CREATE)
    lost = any(d.consequence == Consequence.DATA_LOSS for d in found.deviations)
    return found.id.resource.kind is Kind.VOLUME and deleted and lost


def is_undecided(wanted: Wanted, found: Observed | None, options: PlanOptions) -> bool:
    """Return whether *found* is a Job whose run was interrupted, so that nobody knows its end."""
    return (
        found is not None
        and found.attempt is not None
        and found.attempt.verb == Verb.RUN
        and not found.attempt.error
        and found.status.get("started") is not False
        and not wanted.tree["idempotent"]
        and wanted.id.resource.name not in options.rerun_jobs
    )


def _weigh(action: Action) -> Action:
    """Return *action* with verb and consequence by its changes and its floor."""
    consequence = _worst([worst(action.changes), action.floor])
    kind = action.id.resource.kind
    if consequence is Consequence.NONE:
        return replace(action, verb=Verb.NOOP, consequence=consequence, reason=UNCHANGED)
    runs = kind is Kind.JOB and consequence.rank >= Consequence.REPLACE.rank
    return replace(action, verb=Verb.RUN if runs else Verb.UPDATE, consequence=consequence)


def _demands(
    wanted: Wanted, found: Observed, options: PlanOptions, former: InstanceId | None
) -> Iterator[tuple[Consequence, str]]:
    """Yield what has to be done whatever the comparison says, and why."""
    attempt = unfinished(found)
    if attempt:
        yield attempt
    if former:
        yield Consequence.LIVE, f"renamed from {former.resource.name}"
    kind = wanted.id.resource.kind
    if kind is Kind.IMAGE and options.refresh_images:
        yield Consequence.REPLACE, "a refresh was asked for"
    if kind is Kind.JOB:
        if wanted.id.resource.name in options.rerun_jobs:
            yield Consequence.REPLACE, "a rerun was asked for"
        elif wanted.tree["rerun"] == "always":
            yield Consequence.REPLACE, "runs with every apply (rerun: always)"
    if found.leftovers:
        yield Consequence.LIVE, "what an earlier apply replaced is still there"


def _noop(wanted: Wanted, found: Observed, tree: Tree, warnings: tuple[str, ...]) -> Action:
    return Action(
        id=wanted.id,
        verb=Verb.NOOP,
        reason=UNCHANGED,
        before=tree,
        after=tree,
        object_id=found.object_id,
        record=found.record,
        origin=wanted.resource.origin,
        labels=dict(wanted.resource.labels),
        warnings=warnings,
    )


def _create(wanted: Wanted, found: Observed | None) -> Action:
    attempt = unfinished(found) if found else None
    return Action(
        id=wanted.id,
        verb=Verb.RUN if wanted.id.resource.kind is Kind.JOB else Verb.CREATE,
        reason=attempt[1] if attempt else ABSENT,
        after=wanted.tree,
        object_id=found.object_id if found else "",
        leftovers=found.leftovers if found else (),
        record=found.record if found else {},
        origin=wanted.resource.origin,
        provenance=wanted.sources.record(),
        labels=dict(wanted.resource.labels),
    )


def _adopt(wanted: Wanted, stray: Observed) -> Action:
    """Take over what carries the mark of the instance, and is recorded nowhere."""
    drift = tuple(
        drift_change(deviation, wanted.id.resource.kind, wanted.sources)
        for deviation in stray.deviations
    )
    return Action(
        id=wanted.id,
        verb=Verb.UPDATE,
        consequence=_worst([Consequence.LIVE, worst(drift)]),
        reason="; ".join([change.cause for change in drift] or [ADOPTED]),
        changes=drift,
        after=wanted.tree,
        object_id=stray.object_id,
        leftovers=stray.leftovers,
        origin=wanted.resource.origin,
        provenance=wanted.sources.record(),
        labels=dict(wanted.resource.labels),
    )


def _undecided(wanted: Wanted, found: Observed | None) -> Action:
    name = wanted.id.resource.name
    return Action(
        id=wanted.id,
        verb=Verb.NOOP,
        reason="its run was interrupted, nobody knows how it ended",
        object_id=found.object_id if found else "",
        before=found.effective if found else None,
        after=found.effective if found else None,
        origin=wanted.resource.origin,
        labels=dict(wanted.resource.labels),
        warnings=(
            f"{wanted.id}: its run was interrupted and is not repeated by itself;"
            f" say --rerun-job {name}, or idempotent: true in the manifest",
        ),
    )


def _wish(wanted: Wanted, before: Tree, found: Observed) -> tuple[Tree, tuple[str, ...]]:
    """Return the tree to bring *found* to: the wanted one, less what is to be left as it is."""
    after, resource = wanted.tree, wanted.resource
    if resource.id.kind is Kind.NETWORK and not _is_made_anew(after, before):
        after = inherit_addresses(after, before)
    if resource.ignore:
        after = keep(before, after, _with_image(resource.ignore, wanted, found))
    if resource.id.kind is Kind.JOB and after["rerun"] == "never":
        after = after | {"container": before["container"]}
    warnings: tuple[str, ...] = ()
    if after.get("state") == "stopped" and "container" in after and not _is_lost(found):
        after, warnings = _deferred(wanted, before, after, found)
    return _close(after, found), warnings


def _is_lost(found: Observed) -> bool:
    """Tell whether the object is made anew in any case, so that nothing has to wait for that."""
    attempt = unfinished(found)
    taken = [Consequence(deviation.consequence) for deviation in found.deviations]
    taken += [attempt[0]] if attempt else []
    return _worst(taken).rank >= Consequence.REPLACE.rank


def _is_made_anew(after: Tree, before: Tree) -> bool:
    """Tell whether a Network is replaced, and so needs other addresses than it has meanwhile."""
    return any(
        consequence_of(Kind.NETWORK, found.pattern).rank >= Consequence.REPLACE.rank
        for found in differences(before, after)
        if found.after != UNKNOWN
    )


def _with_image(paths: tuple[str, ...], wanted: Wanted, found: Observed) -> tuple[str, ...]:
    """Return *paths* to leave alone; if the image is among them, what it gives goes with it."""
    if not covers(paths, "container.image.digest"):
        return paths
    rest = join("container.env", REST)
    unknown = (path for path in unknown_paths(wanted.tree) if path != rest)
    given = (path for path, source in found.provenance.items() if source == "image")
    return (*paths, *unknown, *wanted.from_image, *given)


def _deferred(
    wanted: Wanted, before: Tree, after: Tree, found: Observed
) -> tuple[Tree, tuple[str, ...]]:
    """Keep what only a new container could change: a stopped one is never made anew."""
    kind = wanted.id.resource.kind
    late = tuple(
        difference.path
        for difference in differences(before, after)
        if consequence_of(kind, difference.pattern).rank >= Consequence.REPLACE.rank
    )
    if not late:
        return after, ()
    warning = f"{wanted.id} is stopped: {', '.join(late)} will change when it runs again"
    return keep(before, after, _with_image(late, wanted, found)), (warning,)


def _close(after: Tree, found: Observed) -> Tree:
    """Give an environment whose image stays as it is the image's variables that it has now."""
    container = after.get("container")
    if not container or container["image"]["digest"] == UNKNOWN or REST not in container["env"]:
        return after
    own = {name: value for name, value in container["env"].items() if name != REST}
    given = {
        name: value
        for name, value in (found.effective or {})["container"]["env"].items()
        if found.provenance.get(join("container.env", name), "image") == "image"
    }
    return after | {"container": container | {"env": given | own}}


def _is_well(found: Observed) -> bool:
    return (
        not found.deviations
        and found.status.get("state") == "running"
        and found.status.get("health") in (None, "none", "healthy")
    )


def _worst(consequences: Iterable[Consequence]) -> Consequence:
    return max(consequences, key=lambda c: c.rank, default=Consequence.NONE)
