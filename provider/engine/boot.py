"""What follows from a boot of the host, and from its shutdown, for what a project has applied.

Both walk the graph as an apply does, but write nothing: ledger, journal and history are as the last
apply has left them, and what it has not brought to its end is still the next one's. So both can be
cut off at any point, and done again.
"""

import time
from collections.abc import Callable

from provider.engine.ports import Context, Outcome, Reviver
from provider.engine.run import Emit, Run
from provider.model.plan import Action, Plan
from provider.model.resource import Desired, World
from provider.planning.report import Report, Result

Act = Callable[[Action, Context], Outcome]


def bring_back(
    plan: Plan,
    world: World,
    driver: Reviver,
    *,
    wait_s: float,
    emit: Emit,
) -> Report:
    """Carry out a boot plan; the caller holds the project's lock since before it observed.

    What containers have of the host is waited for *wait_s* seconds at most, by all of them.
    """
    deadline = time.monotonic() + wait_s

    def revive(action: Action, context: Context) -> Outcome:
        return driver.revive(action, context, deadline)

    return _walk(plan, world, driver, revive, emit)


def take_down(plan: Plan, world: World, driver: Reviver, *, emit: Emit) -> Report:
    """Carry out a shutdown plan. What does not end holds up nothing but what it depends on."""
    return _walk(plan, world, driver, driver.halt, emit)


class _Run(Run):
    """A walk that is written down nowhere."""

    do: Act
    reviver: Reviver

    def act(self, action: Action, context: Context) -> Outcome:
        return self.do(action, context)

    def prove(self, action: Action, context: Context, deadline: float) -> None:
        self.reviver.prove(action, context, deadline)


def _walk(
    plan: Plan,
    world: World,
    driver: Reviver,
    act: Act,
    emit: Emit,
) -> Report:
    run = _Run(plan, Desired(plan.project, ()), world, (driver,), run_id="", emit=emit)
    run.do, run.reviver = act, driver
    try:
        bug = run.go()
        run.context.stopping.set()
        if bug is not None:
            raise bug
    finally:
        run.crew.dismiss()
    return Report(
        project=plan.project,
        results=tuple(run.results.get(action.id) or Result(action) for action in plan),
        interrupted=run.interrupted,
        warnings=plan.warnings,
    )
