"""One project in a world of memory, driven the way the command line drives the real one."""

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provider.drivers.memory import MemoryDriver, MemoryWorld, Thing
from provider.engine.apply import ApplyOptions, apply
from provider.engine.lock import project_lock
from provider.engine.observe import observe, preflight
from provider.errors import ApplyError
from provider.model.events import ActionEvent
from provider.model.ids import InstanceId
from provider.model.plan import Plan, Verb
from provider.model.resource import Desired
from provider.planning.options import PlanOptions
from provider.planning.plan import make_delete_plan, make_plan
from provider.planning.report import Report
from tests.support.builders import PROJECT


@dataclass
class Host:
    """A machine with one state folder."""

    state: Path
    world: MemoryWorld = field(default_factory=MemoryWorld)
    events: list[ActionEvent] = field(default_factory=list)
    workers: int = 4
    emit: Any = lambda event: None
    """Hears each event, after it was kept."""

    def __post_init__(self) -> None:
        self.driver = MemoryDriver(self.world)
        self._ids = itertools.count(1)

    def plan(self, wanted: Desired, **options: Any) -> Plan:
        seen = observe(self.state, PROJECT, [self.driver], desired=wanted)
        return preflight(make_plan(wanted, seen, PlanOptions(**options)), [self.driver])

    def apply(self, wanted: Desired, on_failure: str = "continue", **options: Any) -> Report:
        with self.lock():
            seen = observe(self.state, PROJECT, [self.driver], desired=wanted, held=True)
            plan = make_plan(wanted, seen, PlanOptions(**options))
            return self._apply(plan, wanted, seen, on_failure)

    def delete(self, **options: Any) -> Report:
        with self.lock():
            seen = observe(self.state, PROJECT, [self.driver], held=True)
            plan = make_delete_plan(PROJECT, seen, PlanOptions(**options))
            return self._apply(plan, Desired(PROJECT, ()), seen, "continue")

    def _apply(self, plan: Plan, wanted: Desired, seen: Any, on_failure: str) -> Report:
        run = ApplyOptions(
            who="root@test",
            on_failure=on_failure,
            workers=self.workers,
            new_id=lambda: f"o{next(self._ids)}",
        )
        return apply(plan, wanted, seen, [self.driver], self.state, options=run, emit=self._hear)

    def _hear(self, event: ActionEvent) -> None:
        self.events.append(event)
        self.emit(event)

    def lock(self) -> Any:
        return project_lock(self.state, PROJECT, owner="root@test", reason="test")

    def thing(self, instance: InstanceId) -> Thing:
        """Return the one object marked as *instance*."""
        (found,) = (t for t in self.world.things.values() if t.mark == instance)
        return found

    def marks(self) -> list[str]:
        """Return what there is, sorted."""
        return sorted(str(thing.mark) for thing in self.world.things.values())


def todo(plan: Plan) -> dict[str, str]:
    """Return the pending actions of a plan: instance -> ``verb consequence``."""
    return {
        str(a.id): f"{a.verb} {a.consequence}" if a.verb is Verb.UPDATE else str(a.verb)
        for a in plan.pending
    }


def fates(report: Report) -> dict[str, str]:
    """Return what became of each action: instance -> fate."""
    return {str(r.action.id): str(r.fate) for r in report.results}


def failing(host: Host, *steps: str) -> None:
    """Have these steps of the world fail, such as ``create Container/db``."""

    def fail(step: str) -> None:
        if step in steps:
            raise ApplyError(f"{step}: no luck")

    host.world.before_step = fail
