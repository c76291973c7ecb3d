"""A world in memory: what the real drivers do to a host, done to dictionaries.

For tests of planning and engine, and for the tests all drivers have to pass. It is strict where a
kernel would be (an object needs what it is built on, an address is given out once), can be told to
fail or to die at any step, and lets tests break things by hand as an operator with a shell would.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from provider.engine.entry import ended_job
from provider.engine.ledger import Entry
from provider.engine.ports import Context, Finding, Outcome, UnsettledError
from provider.errors import ApplyError
from provider.model.ids import InstanceId, Kind, ResourceId
from provider.model.plan import UNKNOWN, Action, Consequence, Verb
from provider.model.resource import Attempt, Condition, Deviation, Observed, Resource
from provider.model.tree import Tree, fingerprint
from provider.planning.effective import CONTAINER_KINDS
from provider.planning.expand import is_ports
from runtime.record import dataclass, field

KINDS = frozenset(Kind) - {Kind.PROJECT, Kind.HOST}


@dataclass(slots=True)
class Thing:
    """One object of the world."""

    kind: Kind
    mark: InstanceId
    """What it says it is; a real driver puts this into labels of its objects."""
    tree: Tree
    """What it was made with: stands for the state of the kernel."""
    running: bool = True
    starts: int = 1
    exit_code: int | None = None
    facts: Tree = field(default_factory=dict)


@dataclass(slots=True)
class MemoryWorld:
    """The host: objects by id, and a log of everything that was done to it."""

    things: dict[str, Thing] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    """``create Container/a``: every effect, in order."""
    before_step: Callable[[str], None] = lambda step: None
    """Called with each line before it takes effect; may raise, to fail or to die."""
    unhealthy: set[InstanceId] = field(default_factory=set)
    failing_jobs: dict[str, int] = field(default_factory=dict)
    """Job name -> exit code of its runs."""
    sources: dict[str, str] = field(default_factory=dict)
    """Image name -> what its source holds on the host: part of its input key."""
    lock: threading.RLock = field(default_factory=threading.RLock)

    def step(self, text: str) -> None:
        """Do one effect, unless the test has other plans."""
        self.before_step(text)
        self.log.append(text)

    def of(self, kind: Kind) -> Iterator[tuple[str, Thing]]:
        """Yield the objects of a kind."""
        return ((i, thing) for i, thing in list(self.things.items()) if thing.kind is kind)


class MemoryDriver:
    """Observer and driver of all kinds over a ``MemoryWorld``."""

    def __init__(self, world: MemoryWorld) -> None:
        self.world = world
        self.postponed: dict[InstanceId, ApplyError] = {}
        """Handed out by ``finish``; tests put failures in."""

    @property
    def kinds(self) -> frozenset[Kind]:
        """All kinds that have instances."""
        return KINDS

    # -- looking

    def observe(self, project: str, entries: Mapping[InstanceId, Entry]) -> Iterable[Observed]:
        """Yield entries joined with the things, and marked things that are in no entry."""
        known = {entry.object_id for entry in entries.values()}
        known |= {leftover for entry in entries.values() for leftover in entry.leftovers}
        for entry in entries.values():
            yield self._observe(entry)
        for object_id, thing in self.world.things.items():
            if thing.kind is Kind.IMAGE:
                continue  # content is shared by digest; what nobody refers to is for gc
            if thing.mark.resource.project == project and object_id not in known:
                yield Observed(thing.mark, object_id, None)

    def _observe(self, entry: Entry) -> Observed:
        attempt = entry.attempt
        if attempt and attempt.verb == Verb.RUN and not attempt.error:
            return self._interrupted_job(entry, attempt)
        thing = self.world.things.get(entry.object_id)
        if entry.effective is None:
            return entry.observed()
        if thing is None:
            lost = entry.id.resource.kind is Kind.VOLUME
            gone = Deviation(
                path="kernel.object",
                recorded=entry.object_id,
                actual=None,
                cause=f"{entry.id} is gone",
                consequence="dataLoss" if lost else "replace",
            )
            return entry.observed(deviations=(gone,))
        return entry.observed(
            deviations=tuple(_deviations(entry, thing)), status=self._status(entry.id, thing)
        )

    def _interrupted_job(self, entry: Entry, attempt: Attempt) -> Observed:
        thing = self.world.things.get(attempt.object_id or entry.object_id)
        if thing is None:
            return entry.observed(status={"started": False})
        status = self._status(entry.id, thing)
        if thing.exit_code is None:
            return entry.observed(status=status)
        return ended_job(entry, thing.exit_code, "it ended badly", status)

    def _status(self, instance: InstanceId, thing: Thing) -> Tree:
        health = "unhealthy" if instance in self.world.unhealthy else "healthy"
        return {"state": "running" if thing.running else "exited", "health": health} | thing.facts

    def inputs(self, resource: Resource) -> Tree:
        """Return the input key of an Image."""
        if resource.id.kind is not Kind.IMAGE:
            return {}
        return {"key": fingerprint(self.world.sources.get(resource.id.name))}

    def preflight(self, actions: Sequence[Action]) -> Iterable[Finding]:
        """Refuse a port that another project publishes."""
        own = {action.id.resource.project for action in actions}
        taken = {
            (port["port"], port["protocol"]): thing.mark
            for thing in self.world.things.values()
            if thing.mark.resource.project not in own
            for port in thing.tree.get("publish", ())
        }
        for action in actions:
            for port in (action.after or {}).get("publish", ()):
                holder = taken.get((port["port"], port["protocol"]))
                if holder:
                    text = f"port {port['port']} is taken by project {holder.resource.project}"
                    yield Finding(text, action.id, refusal=True)

    # -- acting

    def prepare(self, context: Context) -> None:
        """Note that an apply begins."""
        self.world.step("prepare")

    def finish(self, context: Context) -> Mapping[InstanceId, ApplyError]:
        """Note that it has ended."""
        self.world.step("finish")
        return self.postponed

    def perform(self, action: Action, context: Context) -> Outcome:
        """Do the action, in as many steps as a real one has."""
        for leftover in action.leftovers:
            self._remove(leftover, f"clean {action.id}")
        if action.verb is Verb.DELETE:
            self._remove(action.object_id, f"delete {action.id}")
            return Outcome(action.object_id, {})
        if action.after is None:
            raise ApplyError(f"{action.id}: nothing is wanted")
        tree = action.after
        anew = action.consequence.rank >= Consequence.REPLACE.rank
        if action.verb is Verb.UPDATE and not anew:
            return self._change(action, tree, context)
        if action.object_id and (action.id.resource.kind is not Kind.IMAGE):
            self._remove(action.object_id, f"replace {action.id}")
        return self._create(action, tree, context)

    def _create(self, action: Action, tree: Tree, context: Context) -> Outcome:
        kind = action.id.resource.kind
        object_id, record, facts = context.object_id, dict[str, object](), dict[str, object]()
        if kind is Kind.IMAGE:
            content = [tree[member] for member in ("archive", "host", "debian", "inputs")]
            digest = fingerprint([action.id.resource.name, *content])
            record = {"digest": digest, "config": tree["config"]}
            object_id = str(record["digest"])
        if kind is Kind.NETWORK:
            tree = self._addressed(tree)
        if kind in CONTAINER_KINDS and not is_ports(action.id):
            self._check_ground(action.id, tree["container"], context)
        running = tree.get("state", "running") == "running"
        if not is_ports(action.id) and kind in CONTAINER_KINDS:
            facts = {"address": f"10.0.0.{len(self.world.things) + 2}"}
        self.world.step(f"create {action.id}")
        with self.world.lock:
            self.world.things[object_id] = Thing(kind, action.id, tree, running, facts=facts)
        self.world.step(f"start {action.id}")
        return Outcome(object_id, tree, facts, record)

    def _change(self, action: Action, tree: Tree, context: Context) -> Outcome:
        thing = self.world.things.get(action.object_id)
        if thing is None:
            raise ApplyError(f"{action.id}: {action.object_id} is gone")
        self.world.step(f"change {action.id}")
        thing.mark, thing.tree = action.id, tree
        if action.consequence is Consequence.RESTART:
            self.world.step(f"restart {action.id}")
            thing.running = tree.get("state", "running") == "running"
            thing.starts += 1
        return Outcome(action.object_id, tree, thing.facts, action.record)

    def _remove(self, object_id: str, step: str) -> None:
        with self.world.lock:
            users = [t.mark for t in self.world.things.values() if object_id in _uses(t)]
        if users and step.startswith("delete"):
            raise ApplyError(f"{step}: {object_id} is in use by {users[0]}")
        if object_id in self.world.things:
            self.world.step(step)
            with self.world.lock:
                self.world.things.pop(object_id, None)

    def _addressed(self, tree: Tree) -> Tree:
        with self.world.lock:
            taken = {thing.tree["subnet"] for _, thing in self.world.of(Kind.NETWORK)}
        free = (f"10.88.{n}.0/24" for n in range(256))
        subnet = tree["subnet"]
        if subnet == UNKNOWN:
            subnet = next(candidate for candidate in free if candidate not in taken)
        gateway = tree["gateway"]
        if gateway == UNKNOWN:
            gateway = subnet.rsplit(".", 1)[0] + ".1"
        return tree | {"subnet": subnet, "gateway": gateway}

    def _check_ground(self, instance: InstanceId, container: Tree, context: Context) -> None:
        """Raise if what a container is built on is not there: the engine got the order wrong."""
        needed = [container["image"]["digest"]]
        needed += [use["id"] for use in container["networks"]]
        needed += [use["id"] for use in container["volumes"] if use["volume"]]
        for object_id in needed:
            if object_id not in self.world.things:
                raise ApplyError(f"{instance}: {object_id} is not there")
        for kind, uses in ((Kind.CONFIG, "configs"), (Kind.SECRET, "secrets")):
            for use in container[uses]:
                target = ResourceId(instance.resource.project, kind, use["name"])
                if not context.instances(target):
                    raise ApplyError(f"{instance}: {target} is not there")
                (context.config if kind is Kind.CONFIG else context.secret)(use["name"])

    # -- waiting

    def settle(self, action: Action, context: Context, deadline: float) -> Outcome | None:
        """Say at once how it went."""
        if action.id.resource.kind is Kind.JOB:
            return self._complete(action, context)
        if action.id in self.world.unhealthy:
            raise UnsettledError(
                f"{action.id} was not healthy: last probe: connection refused",
                log_tail=("starting", "out of luck"),
            )
        return None

    def _complete(self, action: Action, context: Context) -> Outcome:
        self.world.step(f"complete {action.id}")
        thing = self.world.things[context.object_id]
        thing.running = False
        thing.exit_code = self.world.failing_jobs.get(action.id.resource.name, 0)
        if thing.exit_code:
            raise UnsettledError(f"it ended with exit code {thing.exit_code}")
        result = {"state": "succeeded", "exitCode": 0}
        return Outcome(context.object_id, thing.tree, record={"result": result})

    def await_condition(
        self, instance: InstanceId, condition: Condition, context: Context, deadline: float
    ) -> None:
        """Say at once whether the condition holds."""
        found = context.find(instance)
        if found is None:
            raise UnsettledError("it is not there")
        if condition is Condition.HEALTHY and instance in self.world.unhealthy:
            raise UnsettledError("it was not healthy: last probe: connection refused")
        succeeded = found.record.get("result", {}).get("state") == "succeeded"
        if condition is Condition.COMPLETED and not succeeded:
            raise UnsettledError("it has not completed")


def _deviations(entry: Entry, thing: Thing) -> Iterator[Deviation]:
    """Yield how a thing differs from its entry: fields edited by hand, a process that ended."""
    recorded = entry.effective or {}
    for path, limit in thing.tree.get("container", {}).get("resources", {}).items():
        wanted = recorded.get("container", {}).get("resources", {}).get(path)
        if limit != wanted:
            yield Deviation(
                path=f"container.resources.{path}",
                recorded=wanted,
                actual=limit,
                cause=f"{path} was edited by hand",
            )
    should_run = recorded.get("state", "running") == "running"
    if entry.id.resource.kind in (Kind.CONTAINER, Kind.SERVICE) and thing.running != should_run:
        yield Deviation(
            path="state",
            recorded="running" if should_run else "stopped",
            actual="running" if thing.running else "exited",
            cause="it was killed" if should_run else "it was started by hand",
            consequence="restart",
        )


def _uses(thing: Thing) -> set[str]:
    container = thing.tree.get("container")
    if container is None or not thing.running:
        return set()
    uses = {use["id"] for use in (*container["networks"], *container["volumes"]) if use["id"]}
    return uses | {container["image"]["digest"]}


def edit(thing: Thing, **resources: object) -> None:
    """Change limits of a thing as ``echo ... > memory.max`` would."""
    container = thing.tree["container"]
    limits = container["resources"] | resources
    thing.tree = thing.tree | {"container": container | {"resources": limits}}
