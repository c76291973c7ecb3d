"""What waits for what, and the one order in which a plan is shown and begun. Pure."""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from provider.model.ids import InstanceId, Kind, ResourceId
from provider.model.plan import Action, Consequence, Need, Verb
from provider.model.resource import Condition, Observed, Resource
from provider.model.tree import Tree
from provider.planning.effective import CONTAINER_KINDS
from provider.planning.expand import is_ports
from provider.planning.facts import Facts


def needs_of(resource: Resource, instance: InstanceId, facts: Facts) -> tuple[Need, ...]:
    """Return what *instance* waits for: of each dependency that host's instances, else all.

    Of a Service, that is its published ports, and its replicas in the condition asked for.
    """
    needs: dict[InstanceId, Need] = {}

    def add(target: InstanceId, condition: Condition, timeout_s: float | None = None) -> None:
        known = needs.get(target)
        if known is None or known.condition is Condition.STARTED:
            needs[target] = Need(target, condition, timeout_s)

    stopped = resource.spec.get("state") == "stopped"
    if is_ports(instance):
        for replica in facts.seen_from(instance.host, resource.id):
            if replica.index >= 0:
                # No traffic to a replica that is not ready for it.
                add(replica, Condition.STARTED if stopped else Condition.HEALTHY)
    for edge in resource.dependencies:
        targets = facts.seen_from(instance.host, edge.target)
        for target in targets or (InstanceId(edge.target, instance.host),):
            condition = Condition.STARTED if is_ports(target) else edge.condition
            add(target, condition, edge.timeout_s)
    return tuple(needs.values())


def roll(actions: Sequence[Action]) -> tuple[Action, ...]:
    """Return replacements and restarts of one Service's replicas one batch after the other.

    Each waits until the one a batch before it is healthy, so that a bad change stops at the
    first batch and the rest goes on serving. Those that are to stop wait for the one before to
    have stopped.
    """
    grave = [
        action
        for action in actions
        if action.before
        and action.consequence.rank >= Consequence.RESTART.rank
        and not is_ports(action.id)
    ]
    wanted = grave[0].after if grave else None
    batch = max(1, int(wanted["update"]["batch"])) if wanted else 1
    stopped = wanted is not None and wanted["state"] == "stopped"
    condition = Condition.STARTED if stopped else Condition.HEALTHY
    before = {
        late.id: Need(early.id, condition, lasts=False)
        for early, late in zip(grave, grave[batch:], strict=False)
    }
    return tuple(
        replace(a, needs=(*a.needs, before[a.id])) if a.id in before else a for a in actions
    )


def done(action: Action) -> Need:
    """Return the need of an action of a container that is over, what it replaces gone."""
    proves = action.verb is not Verb.DELETE and not is_ports(action.id)
    running = (action.after or {}).get("state", "running") == "running"
    condition = Condition.HEALTHY if proves and running else Condition.STARTED
    return Need(action.id, condition, lasts=False)


def order_deletes(
    deletes: Sequence[Action], pending: Iterable[Action], records: Mapping[InstanceId, Observed]
) -> tuple[Action, ...]:
    """Return *deletes*, each in need of all that was built on its instance: dependents first.

    A dependent that stays was built on it and is changed now so that it is not any more. No
    record tells what a stray container, or one never finished, was built on: anything may be.
    """
    moving = [*deletes, *pending]
    built_on: dict[InstanceId, list[Action]] = {}
    half_made = [a for a in deletes if a.before is None and a.id.resource.kind in CONTAINER_KINDS]
    for action in deletes:
        if action.id.resource.kind not in CONTAINER_KINDS:
            built_on[action.id] = [*half_made]
    for action in moving:
        record = records.get(action.renamed_from or action.id)
        if record is not None:
            # One that was stopped may have more than it asks for by now.
            has = (InstanceId(used, action.id.host) for used in uses(record.effective, action.id))
            for target in dict.fromkeys((*record.needs, *has)):
                built_on.setdefault(target, []).append(action)
    return tuple(
        replace(a, needs=tuple(_left(user) for user in built_on.get(a.id, ()) if user.id != a.id))
        for a in deletes
    )


def _left(user: Action) -> Need:
    """Return the need of what *user* was built on: one that is replaced has it to the end."""
    replaced = user.consequence.rank >= Consequence.REPLACE.rank
    return done(user) if replaced and user.id.resource.kind in CONTAINER_KINDS else Need(user.id)


def uses(tree: Tree | None, instance: InstanceId) -> Iterable[ResourceId]:
    """Yield the networks and volumes that the container of *instance*, as in *tree*, has."""
    container = (tree or {}).get("container", {})
    for member, kind, key in (
        ("networks", Kind.NETWORK, "name"),
        ("volumes", Kind.VOLUME, "volume"),
    ):
        for use in container.get(member, ()):
            if use[key]:
                yield ResourceId(use["project"] or instance.resource.project, kind, use[key])


def arrange(actions: Sequence[Action]) -> tuple[Action, ...]:
    """Return *actions* with each after what it needs, otherwise in the order given."""
    position = {action.id: number for number, action in enumerate(actions)}
    waiting = [{position[n.target] for n in a.needs if n.target in position} for a in actions]
    dependents: dict[int, list[int]] = {}
    for number, targets in enumerate(waiting):
        for target in targets:
            dependents.setdefault(target, []).append(number)
    ready = [number for number, targets in enumerate(waiting) if not targets]
    heapq.heapify(ready)
    ordered = []
    while ready:
        number = heapq.heappop(ready)
        ordered.append(actions[number])
        for dependent in dependents.get(number, ()):
            waiting[dependent].discard(number)
            if not waiting[dependent]:
                heapq.heappush(ready, dependent)
    if len(ordered) != len(actions):
        stuck = ", ".join(str(a.id) for n, a in enumerate(actions) if waiting[n])
        raise AssertionError(f"needs go in a circle: {stuck}")
    return tuple(ordered)
