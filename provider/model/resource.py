"""What is wanted and what was found, in one vocabulary."""

from collections.abc import Mapping
from enum import StrEnum

from provider.errors import Origin
from provider.model.ids import InstanceId, ResourceId
from provider.model.secret import SecretValue
from provider.model.tree import Tree
from runtime.record import dataclass, field


class Condition(StrEnum):
    """What a dependency must have reached before the dependent starts."""

    STARTED = "started"
    HEALTHY = "healthy"
    COMPLETED = "completed"


class Effect(StrEnum):
    """What a change of the dependency does to the dependent."""

    ORDER = "order"
    RESTART = "restart"
    RECREATE = "recreate"


@dataclass(frozen=True, slots=True, order=True)
class Dependency:
    """An edge: the holder needs *target*."""

    target: ResourceId
    condition: Condition = Condition.STARTED
    timeout_s: float = 120.0
    effect: Effect = Effect.ORDER
    field: str = ""
    """Path in the spec the edge comes from (``container.networks[shop]``, ``dependsOn[...]``)."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One thing the user wants to exist."""

    id: ResourceId
    spec: Tree
    """Canonical (see provider.model.tree), without ``dependsOn``, ``hosts`` and ``lifecycle``."""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    former_name: str = ""
    dependencies: tuple[Dependency, ...] = ()
    hosts: tuple[str, ...] = ("local",)
    """Hosts selected, in order; replicas of a Service are spread over them."""
    prevent_destroy: bool = False
    prune: bool = True
    ignore: tuple[str, ...] = ()
    """Paths whose changes are not planned (``lifecycle.ignore``)."""
    origin: Origin | None = field(default=None, compare=False)
    provenance: Mapping[str, Origin] = field(default_factory=dict, compare=False)
    """Path -> where it was written, for every node written by the user. A path that is not here
    takes the origin of its nearest ancestor here if that is a leaf, else it is a default."""


@dataclass(frozen=True, slots=True)
class Desired:
    """Everything one run wants: a project and its resources in dependency order."""

    project: str
    resources: tuple[Resource, ...]
    prune: bool = True
    """The project's prune policy."""
    fingerprint: str = ""
    """Of the canonical whole, for revisions."""
    sources: tuple[str, ...] = ()
    secrets: Mapping[ResourceId, Mapping[str, SecretValue]] = field(
        default_factory=dict, compare=False, repr=False
    )
    """The values behind the HMACs in the trees of kind Secret: resource -> key -> value."""

    def get(self, resource_id: ResourceId) -> Resource | None:
        """Return the resource of that identity, if it is wanted."""
        return next((r for r in self.resources if r.id == resource_id), None)


@dataclass(frozen=True, slots=True)
class Deviation:
    """One root cause by which the kernel differs from what a record implies."""

    path: str
    """Field of the spec, or ``kernel.<thing>`` where no field stands for it."""
    recorded: object
    actual: object
    cause: str
    """In words: ``memory.max was edited by hand``, ``link bp1v3 is down``."""
    effects: tuple[str, ...] = ()
    """What follows from it, shown nested below the one plan line."""
    consequence: str = "live"
    """What mending takes: ``live | restart | replace | dataLoss``."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """An apply that did not get through at an instance: it failed, or was interrupted."""

    verb: str
    """What it was doing, a ``provider.model.plan.Verb``."""
    consequence: str
    """How far-reaching that was, a ``provider.model.plan.Consequence``."""
    stage: str = "perform"
    """``perform``: the object may be half made; ``settle``: made, but it did not become healthy
    (or, a Job, did not complete); ``finish``: made, but work put off to the end was not done."""
    error: str = ""
    """Why it failed; empty if it was interrupted."""
    intended: Tree | None = None
    """The effective spec it was working towards."""
    object_id: str = ""
    """The object that may be half made; empty where it is the one on record."""


@dataclass(frozen=True, slots=True)
class Observed:
    """One thing found on a host, or recorded and not found."""

    id: InstanceId
    """For a stray: of the mark it carries."""
    object_id: str
    """What the runtime calls it: container id, network id, image digest ..."""
    effective: Tree | None
    """The effective spec it was last brought to, as recorded; None where there is no record."""
    deviations: tuple[Deviation, ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    status: Tree = field(default_factory=dict)
    """Facts for ``get`` and ``status``: state, pid, exit code, addresses, health, digests ..."""
    record: Tree = field(default_factory=dict)
    """The rest of its ledger entry (input keys, digests, results of Jobs)."""
    needs: tuple[InstanceId, ...] = ()
    """What it was brought up on; deletes go the other way round."""
    generation: str = ""
    """Changes whenever it is created, replaced, restarted or run by an apply."""
    stamp: str = ""
    """Which apply wrote its ledger entry."""
    attempt: Attempt | None = None
    leftovers: tuple[str, ...] = ()
    """Object ids of half-made or replaced objects that are still to be removed."""

    @property
    def is_stray(self) -> bool:
        """True if it carries the project's mark but is in no ledger."""
        return self.effective is None and self.attempt is None


@dataclass(frozen=True, slots=True)
class World:
    """All that planning needs to know of the hosts: one consistent snapshot."""

    observed: tuple[Observed, ...] = ()
    """Of the project, strays included."""
    foreign: tuple[Observed, ...] = ()
    """What the project refers to in other projects; never acted on."""
    inputs: Mapping[ResourceId, Tree] = field(default_factory=dict)
    """Facts of the host that are part of what a wanted resource is: input keys of images."""
