"""Desired and observed in, plan out. Pure: no clock, no I/O, no randomness.

The resources are gone through in dependency order, and each leaves in the facts what those after
it may count on: its object as it is, or the mark that only the apply will tell. That is how a
replaced network, a rebuilt image or a restarted dependency reaches everything that uses it, and
why a crash between the two is no harm: the dependent's record still names the old one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from provider.model.ids import InstanceId, Kind, ResourceId
from provider.model.plan import UNKNOWN, Action, Consequence, Plan, Verb
from provider.model.resource import Desired, Observed, Resource, World
from provider.model.tree import Json, Tree, fingerprint
from provider.planning.decide import Wanted, decide
from provider.planning.effective import Contents, bind, outline, ports_outline
from provider.planning.expand import expand, is_ports
from provider.planning.facts import Facts
from provider.planning.guards import (
    guard_actions,
    guard_adoption,
    guard_input,
    guard_needs,
    guard_prune,
    guard_users,
)
from provider.planning.handover import hand_over
from provider.planning.options import PlanOptions
from provider.planning.order import arrange, needs_of, order_deletes, roll, uses
from provider.planning.partial import left_behind
from provider.planning.rename import (
    Renames,
    Renaming,
    find_renames,
    new_instance,
    renamed_tree,
)
from runtime.record import dataclass, field

STRAY = "carries the project's mark but is in neither its ledger nor its manifests"
NOT_WANTED = "not in the manifests any more"
ASKED = "asked for"

_RANK = {kind: rank for rank, kind in enumerate(Kind)}


def make_plan(desired: Desired, world: World, options: PlanOptions | None = None) -> Plan:
    """Return what it takes to turn *world* into *desired*, no-ops included.

    Creations and updates come first, dependencies before dependents, deletes last and the other
    way round. What a guard refuses is in ``Plan.refusals``; such a plan must not be applied.

    Raises:
        ManifestError: a key of a Config or Secret is used that it does not have.
    """
    options = options or PlanOptions()
    run = _Planning(desired, world, options)
    run.plan_wanted()
    run.plan_deletes()
    return run.result()


def make_delete_plan(project: str, world: World, options: PlanOptions | None = None) -> Plan:
    """Return the plan that removes the project, or the selected part of it.

    Volumes are kept unless ``options.delete_volumes``; what is kept is listed.
    """
    options = options or PlanOptions()
    run = _Planning(Desired(project, ()), world, options, explicit=True)
    run.plan_deletes()
    return run.result()


@dataclass(slots=True)
class _Planning:
    """The state of one planning; lives as long as the call."""

    desired: Desired
    world: World
    options: PlanOptions
    explicit: bool = False
    """A delete was asked for by name: prune policy and prune guards do not apply."""
    records: dict[InstanceId, Observed] = field(default_factory=dict)
    strays: list[Observed] = field(default_factory=list)
    claims: dict[InstanceId, list[Observed]] = field(default_factory=dict)
    """By wanted instances that have nothing: the strays that hold data in their name."""
    renames: Renames = field(default_factory=dict)
    wanted: dict[InstanceId, Resource] = field(default_factory=dict)
    facts: Facts = field(default_factory=Facts)
    actions: list[Action] = field(default_factory=list)
    deletes: list[Action] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    contents: Contents = field(init=False)

    def __post_init__(self) -> None:
        for found in self.world.observed:
            if found.is_stray:
                self.strays.append(found)
            else:
                self.records[found.id] = found
        self.contents = Contents(self._content)
        self.claims = self._find_claims()
        self.renames = find_renames(self.desired.resources, self.records)

    # -- what is wanted

    def plan_wanted(self) -> None:
        """Decide on every wanted instance, in dependency order."""
        expanded = self._expand()
        for resource in self.desired.resources:
            instances = expanded[resource.id]
            if not instances:
                continue
            shared = outline(resource, self.contents, self.world.inputs.get(resource.id))
            bound: dict[str, tuple[Tree, frozenset[str]]] = {}
            made: list[Action] = []
            for instance in instances:
                if is_ports(instance):
                    tree, given = bind(self._ports(resource, instance), instance, self.facts)
                else:
                    if instance.host not in bound:
                        bound[instance.host] = bind(shared, instance, self.facts)
                    tree, given = bound[instance.host]
                action = self._decide(Wanted(instance, resource, tree, given))
                if action is not None:
                    made.append(action)
                    self._note(action)
            rolling = resource.id.kind is Kind.SERVICE
            self.actions += roll(made) if rolling else made

    def _expand(self) -> dict[ResourceId, tuple[InstanceId, ...]]:
        existing: dict[ResourceId, list[InstanceId]] = {}
        for instance in self.records:
            renamed = new_instance(instance, self.renames)
            existing.setdefault(renamed.resource, []).append(renamed)
        for found in (*self.world.foreign, *self.records.values()):
            self.facts.set(found.id, found)
        expanded = {}
        for resource in self.desired.resources:
            instances = expand(resource, existing.get(resource.id, ()))
            expanded[resource.id] = instances
            for gone in set(existing.get(resource.id, ())) - set(instances):
                self.facts.drop(gone)
            for instance in instances:
                self.wanted[instance] = resource
                if instance not in self.records or instance in self.claims:
                    self.facts.set(instance, self._adoptable(instance))
        return expanded

    def _find_claims(self) -> dict[InstanceId, list[Observed]]:
        """Return the volumes whose record was lost, by who wants them: they are adopted."""
        wanted = {
            former: resource.id
            for resource in self.desired.resources
            for former in (resource.id, replace(resource.id, name=resource.former_name))
            if resource.id.kind is Kind.VOLUME and former.name
        }
        claims: dict[InstanceId, list[Observed]] = {}
        for stray in self.strays:
            if stray.id.resource in wanted:
                instance = replace(stray.id, resource=wanted[stray.id.resource])
                record = self.records.get(instance)
                if record is None or record.effective is None:
                    claims.setdefault(instance, []).append(stray)
        return claims

    def _adoptable(self, instance: InstanceId) -> Observed | None:
        """Return what *instance* takes over, under its name; None if it is not clear what."""
        claims = self.claims.get(instance, ())
        if len(claims) != 1:
            return None
        record = self.records.get(instance)
        leftovers = record.leftovers if record else ()
        return replace(claims[0], id=instance, leftovers=leftovers)

    def _ports(self, resource: Resource, instance: InstanceId) -> Tree:
        seen = self.facts.seen_from(instance.host, resource.id)
        return ports_outline(resource, [i for i in seen if i.index >= 0])

    def _decide(self, wanted: Wanted) -> Action | None:
        found, former, renamings = self._found(wanted.id)
        if not self.options.acts_on(wanted.id):
            return None
        action = decide(wanted, found, options=self.options, renamings=renamings, former=former)
        if action.verb is Verb.NOOP:
            return action
        return replace(action, needs=needs_of(wanted.resource, wanted.id, self.facts))

    def _found(
        self, instance: InstanceId
    ) -> tuple[Observed | None, InstanceId | None, tuple[Renaming, ...]]:
        """Return the record of *instance* with all new names in it, and the former identity."""
        adopted = self._adoptable(instance)
        if adopted is not None:
            return adopted, None, ()
        if not self.renames:
            return self.records.get(instance), None, ()
        former = next((i for i in self.records if new_instance(i, self.renames) == instance), None)
        if former is None:
            return None, None, ()
        found = self.records[former]
        renamings: tuple[Renaming, ...] = ()
        if found.effective is not None:
            tree, renamings = renamed_tree(found, self.renames)
            found = replace(found, effective=tree)
        found = replace(found, id=instance)
        if former != instance:
            self.facts.set(instance, found)
        return found, former if former != instance else None, renamings

    def _note(self, action: Action) -> None:
        """Write down what dependents of *action* may count on."""
        if action.verb is Verb.NOOP:
            return
        rank = action.consequence.rank
        if action.verb is not Verb.UPDATE or rank >= Consequence.REPLACE.rank:
            self.facts.set(action.id, None)
        elif rank >= Consequence.RESTART.rank:
            known = self.facts.get(action.id)
            if known:
                self.facts.set(action.id, replace(known, generation=UNKNOWN))

    def _content(self, resource_id: ResourceId) -> Mapping[str, Json]:
        """Return the data of a Config or Secret: as wanted, else (a partial run) as recorded."""
        resource = self.desired.get(resource_id)
        if resource is not None:
            data: Mapping[str, Json] = resource.spec["data"]
            return data
        recorded = (
            found.effective["data"]
            for found in self.records.values()
            if found.id.resource == resource_id and found.effective
        )
        return next(recorded, {})

    # -- what is not wanted

    def plan_deletes(self) -> None:
        """Decide on what is recorded or marked, and not wanted."""
        taken = {action.renamed_from for action in self.actions}
        for instance in sorted(self.records, key=_deletion_order):
            if instance in self.wanted or instance in taken:
                continue
            if self._goes(self.records[instance]):
                self.deletes.append(self._delete(self.records[instance], NOT_WANTED))
        if self.options.prunes or (self.explicit and self.options.selected is None):
            for found in sorted(self.strays, key=lambda s: (_deletion_order(s.id), s.object_id)):
                self._plan_stray(found)

    def _goes(self, found: Observed) -> bool:
        resource = found.id.resource
        scaled = self.desired.get(resource) is not None
        if not self.options.acts_on(found.id):
            return False
        if not scaled and not self.explicit:
            lifecycle = (found.effective or {}).get("lifecycle", {})
            if not self.options.prunes:
                return False
            if not self.desired.prune or not lifecycle.get("prune", True):
                self.kept.append(f"{found.id}: not in the manifests, but never pruned")
                return False
        if resource.kind is Kind.VOLUME and not self.options.delete_volumes:
            self.kept.append(f"{found.id}: its data is kept unless --delete-volumes is said")
            return False
        holder = self._holder(resource) if resource.kind in (Kind.NETWORK, Kind.VOLUME) else None
        if holder is not None:
            words = "has it until it is made anew or removed"
            self.kept.append(f"{found.id}: {holder} {words}")
            return False
        return True

    def _holder(self, resource: ResourceId) -> InstanceId | None:
        """Return who is left as it is and has a network or volume it does not ask for any more.

        A stopped container is not made anew, and what its manifest has ignored is not changed.
        """
        for action in self.actions:
            if resource in uses(action.after or action.before, action.id):
                return action.id
        return None

    def _delete(self, found: Observed, reason: str) -> Action:
        return Action(
            id=found.id,
            verb=Verb.DELETE,
            consequence=(
                Consequence.DATA_LOSS if found.id.resource.kind is Kind.VOLUME else Consequence.NONE
            ),
            reason=ASKED if self.explicit and reason == NOT_WANTED else reason,
            before=found.effective,
            object_id=found.object_id,
            leftovers=found.leftovers,
            record=found.record,
            labels=dict((found.effective or {}).get("metadata", {}).get("labels", {})),
        )

    def _plan_stray(self, stray: Observed) -> None:
        if any(stray in claims for claims in self.claims.values()):
            return  # adopted, or the plan is refused
        going = self.options.delete_volumes and stray.id not in self.wanted
        if stray.id.resource.kind is Kind.VOLUME and not going:
            self.kept.append(f"{stray.id}: a volume ({stray.object_id}) that {STRAY}")
            return
        # Its mark may name something that is recorded as well; its object id is its own. The
        # index stays: by it a container of a Service is told from published ports.
        resource = ResourceId(self.desired.project, stray.id.resource.kind, stray.object_id)
        instance = InstanceId(resource, stray.id.host, stray.id.index)
        reason = "; ".join([f"{STRAY} (marked as {stray.id})", *stray.status.get("effects", ())])
        self.deletes.append(self._delete(replace(stray, id=instance), reason))

    # -- the whole

    def result(self) -> Plan:
        """Return the plan: needs complete, ordered, guarded."""
        pending = [action for action in self.actions if action.verb is not Verb.NOOP]
        deletes = order_deletes(self.deletes, pending, self.records)
        actions = hand_over((*self.actions, *deletes), self.world.observed)
        if any(action.needs for action in actions):
            actions = arrange(actions)
        recorded = {instance.resource for instance in self.records}
        pruned = {a.id.resource for a in deletes} - {i.resource for i in self.wanted}
        refusals = guard_actions(actions, self._protected(), self.options)
        acted_on = {i: claims for i, claims in self.claims.items() if self.options.acts_on(i)}
        refusals += guard_adoption(acted_on, self.options)
        if self.explicit:
            if self.options.selected is not None:
                refusals += guard_users(deletes, self._staying())
        else:
            refusals += guard_input(self.desired, tuple(self.records.values()), self.options)
            refusals += guard_prune(pruned, recorded | pruned, self.options)
            there = {f.id for f in (*self.world.foreign, *self.records.values()) if f.effective}
            refusals += guard_needs(actions, there)
        return Plan(
            project=self.desired.project,
            actions=actions,
            refusals=tuple(dict.fromkeys(refusals)),
            kept=tuple(self.kept),
            warnings=(
                *(warning for action in actions for warning in action.warnings),
                *left_behind(actions, self._staying(), self.options),
            ),
            fingerprint=fingerprint([self.desired.fingerprint, state_of(self.world)]),
        )

    def _protected(self) -> set[ResourceId]:
        """Return the resources with preventDestroy: the manifest's word, else the record's."""
        protected = {r.id for r in self.desired.resources if r.prevent_destroy}
        mentioned = {r.id for r in self.desired.resources}
        for found in self.records.values():
            lifecycle = (found.effective or {}).get("lifecycle", {})
            if lifecycle.get("preventDestroy") and found.id.resource not in mentioned:
                protected.add(found.id.resource)
        return protected

    def _staying(self) -> Iterable[Observed]:
        return [found for found in self.records.values() if not found.is_stray]


def state_of(world: World) -> Json:
    """Return what identifies a state of the hosts, for the fingerprint of a plan."""
    return [
        [
            str(found.id),
            found.object_id,
            found.stamp,
            bool(found.attempt),
            [[d.path, d.cause, d.consequence] for d in found.deviations],
        ]
        for found in sorted((*world.observed, *world.foreign), key=lambda f: (f.id, f.object_id))
    ]


def _deletion_order(instance: InstanceId) -> tuple[int, str, str, int]:
    """Sort what is built on others first: a Service's ports, its replicas, ..., networks."""
    resource = instance.resource
    return -_RANK[resource.kind], resource.name, instance.host, instance.index
