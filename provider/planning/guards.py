"""What stands between a request and something that cannot be undone. Pure."""

from collections.abc import Iterable, Mapping, Sequence

from provider.model.ids import InstanceId, Kind, ResourceId
from provider.model.plan import Action, Consequence, Verb
from provider.model.resource import Desired, Observed
from provider.planning.options import PlanOptions

PRUNE_FREELY = 3
"""So many resources may always be pruned; beyond, not more than half of the project."""


def guard_input(
    desired: Desired, records: Sequence[Observed], options: PlanOptions
) -> tuple[str, ...]:
    """Return why the input as a whole is refused."""
    refusals = [
        f"{found.id} belongs to project {found.id.resource.project}, not to {desired.project}"
        for found in records
        if found.id.resource.project != desired.project
    ]
    things = [r for r in desired.resources if r.id.kind not in (Kind.PROJECT, Kind.HOST)]
    if not things and options.prunes and not options.allow_empty and records:
        refusals.append(
            f"the input is empty and would remove all of project {desired.project};"
            " say --allow-empty if that is meant"
        )
    return tuple(refusals)


def guard_prune(
    pruned: Iterable[ResourceId], recorded: Iterable[ResourceId], options: PlanOptions
) -> tuple[str, ...]:
    """Return why so much is not pruned."""
    going, all_of_them = set(pruned), set(recorded)
    too_many = len(going) > PRUNE_FREELY and 2 * len(going) > len(all_of_them)
    if not too_many or options.allow_prune:
        return ()
    return (
        f"{len(going)} of {len(all_of_them)} resources would be removed because the input does"
        " not have them; say --allow-prune if that is meant, --partial if it is not all of it",
    )


def guard_actions(
    actions: Sequence[Action], protected: Iterable[ResourceId], options: PlanOptions
) -> tuple[str, ...]:
    """Return which actions are refused: of protected resources, and with loss of data."""
    safe = set(protected)
    refusals = []
    for action in actions:
        grave = action.consequence.rank >= Consequence.REPLACE.rank
        removed = action.verb is Verb.DELETE
        replaced = action.verb is Verb.UPDATE and grave
        if action.id.resource in safe and (removed or replaced):
            fate = "removed" if removed else "made anew"
            refusals.append(f"{action.id} has preventDestroy and would be {fate}")
        lost = action.consequence is Consequence.DATA_LOSS and action.verb is Verb.UPDATE
        if lost and not options.accept_data_loss:
            refusals.append(
                f"{action.id}: {action.reason}; its data is lost unless it is restored:"
                " say --accept-data-loss to begin with an empty one"
            )
    return tuple(refusals)


def guard_adoption(
    claims: Mapping[InstanceId, Sequence[Observed]], options: PlanOptions
) -> tuple[str, ...]:
    """Return for which volumes nobody can tell which one is theirs."""
    if options.accept_data_loss:
        return ()
    return tuple(
        f"{instance}: no ledger has it, and {len(found)} volumes say that they are it:"
        f" {', '.join(str(each.status.get('path', each.object_id)) for each in found)}; move all"
        " but the right one away, or say --accept-data-loss to begin with an empty one"
        for instance, found in claims.items()
        if len(found) > 1
    )


def guard_needs(actions: Sequence[Action], there: Iterable[InstanceId]) -> tuple[str, ...]:
    """Return which actions need something that is neither there nor part of the plan."""
    known = {action.id for action in actions} | set(there)
    return tuple(
        f"{action.id} needs {need.target}, which is not there and not part of this run"
        for action in actions
        for need in action.needs
        if need.target not in known
    )


def guard_users(deletes: Sequence[Action], records: Iterable[Observed]) -> tuple[str, ...]:
    """Return which deletes would pull something from under what stays."""
    going = {action.id for action in deletes}
    return tuple(
        f"{target} is still used by {record.id}, which is not part of this run"
        for record in records
        if record.id not in going
        for target in record.needs
        if target in going
    )
