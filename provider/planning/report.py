"""What an apply (or a plan, a delete) did, resource by resource. Data only."""

from collections import Counter
from enum import StrEnum

from provider.errors import Origin
from provider.model.plan import Action, Plan, Verb
from runtime.record import dataclass


class Fate(StrEnum):
    """How an action ended; ``outcome`` in a report."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an action failed or was skipped."""

    code: str
    message: str
    path: str = ""
    retryable: bool = False
    hint: str = ""
    log_tail: tuple[str, ...] = ()
    origin: Origin | None = None
    """Where in the input it is, for a manifest that is wrong."""


@dataclass(frozen=True, slots=True)
class Result:
    """One action and how it ended."""

    action: Action
    """As it was carried out: what the plan did not know is filled in."""
    fate: Fate = Fate.OK
    failure: Failure | None = None
    duration_s: float = 0.0
    begun: bool = True
    """False if it was skipped before anything was done."""

    @property
    def changed(self) -> bool:
        """True if the host is (or, failed half way, may be) different from before."""
        return self.action.verb is not Verb.NOOP and self.begun


@dataclass(frozen=True, slots=True)
class Report:
    """The whole run."""

    project: str
    results: tuple[Result, ...]
    revision: int | None = None
    """Of the last apply that changed something; None if there never was one."""
    interrupted: bool = False
    kept: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    errors: tuple[Failure, ...] = ()
    """What kept the run itself, and not one of its actions, from its end."""
    pending: bool = False
    """True for a plan: the results are what would be done."""

    @property
    def changed(self) -> bool:
        """True if anything was changed (of a plan: would be)."""
        return any(result.changed for result in self.results)

    @property
    def failed(self) -> bool:
        """True if not everything that was to be done was done."""
        unfinished = any(result.fate is not Fate.OK for result in self.results)
        return unfinished or self.interrupted or bool(self.refusals or self.errors)

    @property
    def summary(self) -> dict[str, int]:
        """Number of results by verb, and of those that failed or were skipped."""
        done = Counter(r.action.verb for r in self.results if r.fate is Fate.OK)
        fates = Counter(result.fate for result in self.results)
        return {str(verb): done[verb] for verb in Verb} | {
            "failed": fates[Fate.FAILED],
            "skipped": fates[Fate.SKIPPED],
        }

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts concerned, sorted."""
        return tuple(sorted({result.action.id.host for result in self.results}))


def plan_report(plan: Plan, *, revision: int | None = None) -> Report:
    """Return *plan* in the form of a report, as ``plan -o json`` and check modes want it."""
    return Report(
        project=plan.project,
        results=tuple(Result(action) for action in plan),
        revision=revision,
        kept=plan.kept,
        warnings=plan.warnings,
        refusals=plan.refusals,
        pending=True,
    )
