"""What a boot of the host brings back of a project, and in which order; what a shutdown ends. Pure.

The ledger alone tells: each instance as the last apply that got through has left it. Nothing is
changed, so nothing is written: an apply that was cut off, or failed, is the next apply's, with its
manifests. Until then what ran before it runs.
"""

from collections.abc import Iterable
from dataclasses import replace

from provider.model.ids import Kind, ResourceId
from provider.model.plan import Action, Consequence, Need, Plan, Verb
from provider.model.resource import Condition, Dependency, Observed, Resource, World
from provider.planning.expand import is_ports
from provider.planning.facts import Facts
from provider.planning.order import arrange, needs_of

NOT_RUNNING = "it ran before the host was started"
HOST_ENDS = "the host goes down"
STOPPED = "it was stopped by hand, and stays so"
_RUNNING = ("running", "restarting")


def make_boot_plan(project: str, world: World) -> Plan:
    """Return what is to be started again, each after what it depends on; the rest are no-ops.

    What an apply has not brought to its end is in the warnings, with what becomes of it.
    """
    facts = Facts(world.observed)
    actions, warnings = [], []
    for found in _containers(world):
        action, warning = _decide(found)
        if warning:
            warnings.append(f"{found.id}: {warning}")
        if action.verb is not Verb.NOOP:
            action = replace(action, needs=needs_of(_as_resource(found), found.id, facts))
        actions.append(action)
    return Plan(project=project, actions=arrange(actions), warnings=tuple(warnings))


def make_shutdown_plan(project: str, world: World) -> Plan:
    """Return what is to end with the host, each after what depends on it."""
    facts = Facts(world.observed)
    ending = {found.id: found for found in _containers(world, jobs=True) if _runs(found)}
    users: dict[object, list[Need]] = {}
    for found in ending.values():
        for need in needs_of(_as_resource(found), found.id, facts):
            users.setdefault(need.target, []).append(Need(found.id))
    return Plan(
        project=project,
        actions=arrange(
            [
                replace(_action(found, HOST_ENDS, Consequence.LIVE), needs=tuple(users.get(i, ())))
                for i, found in ending.items()
            ]
        ),
    )


def _containers(world: World, *, jobs: bool = False) -> Iterable[Observed]:
    kinds = {Kind.CONTAINER, Kind.SERVICE, *({Kind.JOB} if jobs else ())}
    for found in sorted(world.observed, key=lambda found: found.id):
        if found.id.resource.kind in kinds and found.effective and not is_ports(found.id):
            yield found


def _decide(found: Observed) -> tuple[Action, str]:
    """Return the action, and what is to be said of an apply that did not get through there."""
    attempt, effective = found.attempt, found.effective or {}
    idle = Action(id=found.id, verb=Verb.NOOP, before=effective, after=effective)
    lost = next((d.cause for d in found.deviations if d.consequence == Consequence.REPLACE), "")
    down = any(d.path == "state" and d.actual not in _RUNNING for d in found.deviations)
    if effective["state"] != "running" or (not lost and not down):
        return idle, ""
    unproven = attempt is not None and attempt.stage == "settle"
    if lost and not (unproven and found.leftovers):
        return idle, f"{lost}; the next apply makes it anew"
    if attempt is None:
        if found.status.get("stopRequested"):
            return replace(idle, reason=STOPPED), ""
        return _action(found, NOT_RUNNING, Consequence.RESTART), ""
    how = (
        f"the last apply failed here ({attempt.error})"
        if attempt.error
        else ("an apply was cut off here")
    )
    if attempt.verb == Verb.DELETE:
        return idle, f"{how}, while it was removed; the next apply goes on"
    if unproven and attempt.verb == Verb.CREATE and not found.leftovers:
        return idle, f"{how}, before it was ever well; the next apply goes on"
    action = _action(found, NOT_RUNNING, Consequence.RESTART)
    if unproven:
        action = replace(action, leftovers=found.leftovers, unproven=True)
    return action, f"{how}; what served before it comes back, and the next apply goes on"


def _action(found: Observed, reason: str, consequence: Consequence) -> Action:
    return Action(
        id=found.id,
        verb=Verb.UPDATE,
        consequence=consequence,
        reason=reason,
        before=found.effective,
        after=found.effective,
        object_id=found.object_id,
        record=found.record,
    )


def _runs(found: Observed) -> bool:
    return found.status.get("state") in _RUNNING


def _as_resource(found: Observed) -> Resource:
    """Return the resource as far as its record has it: with what it was told to wait for."""
    effective, project = found.effective or {}, found.id.resource.project
    return Resource(
        id=found.id.resource,
        spec=effective,
        dependencies=tuple(
            Dependency(
                ResourceId(project, Kind(edge["kind"]), edge["name"]),
                Condition(edge["condition"]),
                edge["timeout"],
            )
            for edge in effective["dependsOn"]
        ),
    )
