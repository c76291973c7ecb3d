"""What the engine asks of the outside world: observers look, drivers act.

Plan mode is handed observers only; their type has nothing that could change a host. Apply is
handed drivers. Each looks after one or more kinds on this host.

How an apply uses a driver::

    observe(project, entries)            one snapshot; waits for no lock, changes nothing
    inputs(resource)                     for wanted resources of its kinds, before planning
    preflight(actions)                   read-only, in plan as well as in apply
    prepare(context)                     once, before the first action
        perform(action, context)         from several threads at once, dependencies first
        settle(action, context)          until healthy, or until the Job has completed
        await_condition(...)             for dependents that need more than started
    finish(context)                      once, after the last action, also if some failed

What travels between kinds is agreed here:

- An Image's ``Outcome.record`` holds ``digest`` (manifest digest) and ``config`` (tree of
  ``specs.ImageConfig``); containers are planned and recorded with them.
- A Network's and a Volume's ``object_id`` go into the effective spec of the containers that use
  them (``container.networks[shop].id``, ``container.volumes[/data].id``).
- A container-like action's ``after`` holds no UNKNOWN when it is performed. A Network's may
  (``subnet``, ``gateway``): the driver chooses, and returns the full tree as
  ``Outcome.effective``.
- A Job's ``record`` holds ``result``: ``{"state": "succeeded", "exitCode": 0, ...}``.
- A container's ``status`` has ``state`` (``running`` ...) and ``health`` (``none``, ``starting``,
  ``healthy``, ``unhealthy``): one that failed to become healthy in the last apply and is well by
  now is left alone.
"""

import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from provider.engine.ledger import Entry
from provider.errors import ApplyError
from provider.model.ids import InstanceId, Kind, ResourceId
from provider.model.plan import Action
from provider.model.resource import Condition, Observed, Resource
from provider.model.secret import SecretValue
from provider.model.tree import Tree
from runtime.record import dataclass, field


class UnsettledError(ApplyError):
    """What was started did not become what it should; *log_tail* has its last log lines."""

    def __init__(
        self,
        message: str,
        *,
        log_tail: Sequence[str] = (),
        hint: str = "",
        retryable: bool = False,
    ) -> None:
        super().__init__(message, hint=hint, retryable=retryable)
        self.log_tail = tuple(log_tail)


class CutShortError(ApplyError):
    """A wait ended early because ``Context.stopping`` was set: nobody knows how it would end."""

    def __init__(self) -> None:
        super().__init__("interrupted", retryable=True)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something preflight found; a *refusal* keeps the plan from being applied."""

    message: str
    id: InstanceId | None = None
    refusal: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an action has made of its instance; goes into the ledger as it is."""

    object_id: str
    effective: Tree
    """``action.after``, with what only the driver could know filled in."""
    status: Tree = field(default_factory=dict)
    """Facts of the moment for dependents (addresses, pid); not recorded."""
    record: Tree = field(default_factory=dict)
    """Facts to keep (digests, leases, input keys, results); replaces the former record."""


class Context(Protocol):
    """What an action may know and tell while it is performed. Safe to use from any thread."""

    @property
    def apply_id(self) -> str:
        """Name of this apply; unique."""
        ...

    @property
    def object_id(self) -> str:
        """Name for the new object, written to the journal before the action was started.

        Empty where the action makes none. An Image takes its digest instead.
        """
        ...

    @property
    def stopping(self) -> threading.Event:
        """Set when the user interrupts; waits should end early with CutShortError."""
        ...

    def find(self, instance: InstanceId) -> Observed | None:
        """Return an instance as this apply has left it, or as it was observed before."""
        ...

    def instances(self, resource: ResourceId) -> tuple[Observed, ...]:
        """Return all instances of a resource (replicas of a Service by index, then its ports)."""
        ...

    def subnets(self) -> Collection[str]:
        """Return the subnets that wanted networks ask for."""
        ...

    def asked_for(self, project: str | None, network: str) -> Collection[str]:
        """Return the fixed addresses of a network, of what is wanted and of what stays."""
        ...

    def config(self, name: str) -> Mapping[str, bytes]:
        """Return the content of a Config of this project, by key.

        Raises:
            ApplyError: it is in neither the input of this run nor the ledger.
        """
        ...

    def is_secret(self, name: str) -> bool:
        """Tell whether secret values were rendered into that Config, so that no disk may see it."""
        ...

    def secret(self, name: str) -> Mapping[str, SecretValue]:
        """Return the values of a Secret of this project, by key.

        Raises:
            ApplyError: it is not in the input of this run; values are kept nowhere else.
        """
        ...

    def progress(self, message: str) -> None:
        """Tell the user what is going on inside the action."""
        ...


class Observer(Protocol):
    """The half of a driver that looks. Changes nothing, starts nothing, waits for no lock.

    It may keep notes that save work (what was read and was right), in folders that are there.
    """

    @property
    def kinds(self) -> frozenset[Kind]:
        """Kinds it looks after."""
        ...

    def observe(self, project: str, entries: Mapping[InstanceId, Entry]) -> Iterable[Observed]:
        """Yield what is there of its kinds: the project's ledger joined with the kernel.

        *entries* are the recorded instances of its kinds. For each, exactly one Observed comes
        out, best made with ``entry.observed(deviations=..., status=...)``: without deviations
        where the kernel is as ``entry.effective`` implies, else one Deviation per root cause,
        what follows from it as its effects (a container gone is a deviation with consequence
        ``restart`` or ``replace``; a lost volume folder ``dataLoss``; where another resource's
        deviation is the cause, it stands there and not here). An entry without *effective* was
        never finished: yield it as it is. A Job with an interrupted run (``entry.attempt`` of
        verb ``run`` without error) whose end can be told from its object is yielded with its
        ``result`` as *record*, ``attempt=None`` and ``attempt.intended`` as *effective*; one
        whose object was never started has ``{"started": False}`` in its status.

        Beyond the entries, things that carry the project's mark but are in none of them (their
        object id neither an entry's *object_id* nor among its *leftovers*) are yielded as
        strays, with ``effective=None``; what goes with one is in its ``status["effects"]``.
        """
        ...

    def inputs(self, resource: Resource) -> Tree:
        """Return facts of the host that are part of what *resource* is; ``{}`` for most kinds.

        An Image: ``{"key": ...}``, the identity of its source without building it.
        """
        ...

    def preflight(self, actions: Sequence[Action]) -> Iterable[Finding]:
        """Check whether the pending actions of its kinds can work, without side effects.

        Asked without any, too: something may be in the way of what is there already.
        """
        ...


class Driver(Observer, Protocol):
    """Looks after every resource of its kinds on this host. Methods may run in any thread."""

    def prepare(self, context: Context) -> None:
        """Get ready for a whole apply, e.g. read host-wide state once."""
        ...

    def perform(self, action: Action, context: Context) -> Outcome:
        """Bring one instance to ``action.after``, whatever is there; idempotent.

        By verb and consequence:

        - CREATE, RUN: remove ``action.leftovers`` (and, RUN, the former ``action.object_id``),
          then make ``context.object_id``. With ``after["state"] == "stopped"``, make it but do
          not start it.
        - UPDATE with LIVE, RELOAD: change the object in place. ``action.changes`` are for
          messages and short cuts: afterwards all fields whose rule is live hold.
        - UPDATE with RESTART: the same object, its processes started anew, or stopped if
          ``after["state"]`` is ``stopped``; live fields as well.
        - UPDATE with REPLACE, DATA_LOSS: make ``context.object_id`` in the place of
          ``action.object_id``, in the order ``after["update"]["order"]``; remove leftovers. Where
          it is unproven, the leftovers take its place in that, and it goes first.
        - DELETE: remove ``action.object_id`` and leftovers; gone already is fine. The outcome is
          ignored.
        - ``action.renamed_from``: it went by that name; change marks and names too.

        Returns when the thing is there (a container: its program was executed), not when it
        is healthy. Host-wide commits may be shared by threads that are inside ``perform``
        together, or put off to ``finish`` if no dependent needs them.

        Raises:
            ApplyError: the step failed; what was made under ``context.object_id`` is recorded
                as a leftover and removed by the next apply.
        """
        ...

    def settle(self, action: Action, context: Context, deadline: float) -> Outcome | None:
        """Wait until what ``perform`` started is as it should be; runs in a thread of its own.

        A container: healthy, or without a health check running for ``update.healthyFor``, or
        done where it may end; a Job: completed. Other kinds are not asked, nor containers that are
        stopped or changed in place. *deadline* is of ``time.monotonic()``.
        Returns a new outcome if the record should change (result of a Job), else None.

        Raises:
            UnsettledError: names what was awaited and the last probe output, the exit code, or
                the signal.
            CutShortError: a stop was asked for, and nothing is known against it yet.
        """
        ...

    def await_condition(
        self, instance: InstanceId, condition: Condition, context: Context, deadline: float
    ) -> None:
        """Wait until *instance* (see ``context.find``) has reached *condition*.

        Asked about what this apply has not started; about the rest only to tell how it is, with
        a *deadline* that has passed.

        COMPLETED of a Job is a recorded success. Returns at once if that is so already.

        Raises:
            UnsettledError: as in ``settle``.
        """
        ...

    def finish(self, context: Context) -> Mapping[InstanceId, ApplyError]:
        """Do what was put off by ``perform``; called once, also after failures.

        Returns the instances for which that failed; their actions count as failed.
        """
        ...


class Reviver(Driver, Protocol):
    """A driver of what runs, as boot and shutdown of the host need it."""

    def revive(self, action: Action, context: Context, deadline: float) -> Outcome:
        """Start ``action.object_id`` again as it is, or if it is unproven those it was to replace.

        What it has of the host is waited for until *deadline*, of ``time.monotonic()``. The
        outcome names what was started; nothing of it is recorded.

        Raises:
            ApplyError: it could not be started; names what is missing.
        """
        ...

    def prove(self, action: Action, context: Context, deadline: float) -> None:
        """Wait for what was revived to be healthy; unlike ``settle`` it lets nothing go.

        Raises:
            ApplyError: it is not by *deadline*.
        """
        ...

    def halt(self, action: Action, context: Context) -> Outcome:
        """End ``action.object_id`` within its grace, to come back with the next boot.

        Raises:
            ApplyError: it does not end.
        """
        ...
