"""What would change."""

from collections.abc import Iterator
from enum import StrEnum

from provider.errors import Origin
from provider.model.ids import InstanceId
from provider.model.resource import Condition
from provider.model.tree import Tree
from runtime.record import dataclass, field

SCHEMA = "bayplan/plan/v1alpha1"


class Verb(StrEnum):
    """What an action does."""

    NOOP = "noop"
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    RUN = "run"


class Consequence(StrEnum):
    """What a change means for what runs; ordered from harmless to grave."""

    NONE = "none"
    LIVE = "live"
    RELOAD = "reload"
    RESTART = "restart"
    REPLACE = "replace"
    DATA_LOSS = "dataLoss"

    @property
    def rank(self) -> int:
        """Position in the order, so that the worst of several can be taken with max()."""
        return _RANKS[self]


_RANKS = {consequence: rank for rank, consequence in enumerate(Consequence)}


UNKNOWN = "(known after apply)"
"""Stands in a plan for what only the apply will bring, such as a digest not built yet."""


@dataclass(frozen=True, slots=True)
class Change:
    """One field that differs."""

    path: str
    before: object
    after: object
    consequence: Consequence
    sensitive: bool = False
    origin: Origin | None = None
    """Where *after* was written; None for defaults."""
    provenance: str = ""
    """``manifest | overlay | image | default | kernel``: who says *after* (for drift: before)."""
    cause: str = ""
    """What moved, in words, where that is not the manifest: root cause of a drift, a renaming."""
    effects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Need:
    """An action this one waits for, and what it must have reached."""

    target: InstanceId
    condition: Condition = Condition.STARTED
    timeout_s: float | None = None
    """None: what the target itself may take, by its health check and ``healthyFor``."""
    lasts: bool = True
    """False: a turn in this apply alone; what waits is not built upon the target."""


@dataclass(frozen=True, slots=True)
class Action:
    """One step on one instance. Everything apply needs is in here."""

    id: InstanceId
    verb: Verb
    consequence: Consequence = Consequence.NONE
    reason: str = ""
    changes: tuple[Change, ...] = ()
    needs: tuple[Need, ...] = ()
    before: Tree | None = None
    """Effective spec as recorded."""
    after: Tree | None = None
    """Effective spec wanted; may hold UNKNOWN until its dependencies are done."""
    object_id: str = ""
    """The runtime's name of what is there now."""
    leftovers: tuple[str, ...] = ()
    """Objects of earlier attempts, to be removed first."""
    unproven: bool = False
    """What is there was to replace the leftovers and has never proven itself: they serve."""
    floor: Consequence = Consequence.NONE
    """What it takes at least, however the unknown parts of *after* turn out."""
    renamed_from: InstanceId | None = None
    """The record to take over (``metadata.formerName``)."""
    takes_over: tuple[str, ...] = ()
    """Owners whose published ports become its own, in the step in which it publishes them."""
    hands_over: tuple[Tree, ...] = ()
    """Published ports that others take over; it serves them until they have."""
    record: Tree = field(default_factory=dict)
    origin: Origin | None = None
    provenance: Tree = field(default_factory=dict)
    labels: Tree = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """Actions in an order that respects every dependency, no-ops included."""

    project: str
    actions: tuple[Action, ...] = ()
    refusals: tuple[str, ...] = ()
    """What a guard would refuse; a plan with refusals is not applied."""
    kept: tuple[str, ...] = ()
    """What a delete leaves behind on purpose."""
    warnings: tuple[str, ...] = ()
    fingerprint: str = ""
    """Of the desired input and the state it was compared with."""

    def __iter__(self) -> Iterator[Action]:
        return iter(self.actions)

    @property
    def pending(self) -> tuple[Action, ...]:
        """The actions that would change something."""
        return tuple(a for a in self.actions if a.verb is not Verb.NOOP)

    @property
    def is_empty(self) -> bool:
        """True if the hosts already are as desired."""
        return not self.pending
