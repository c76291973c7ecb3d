"""Plans, applies and their reports, as the user asked to see them."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from provider.cli.output import (
    Output,
    colour,
    print_json,
    print_line,
    reader_may_leave,
    width,
)
from provider.cli.progress import make_progress
from provider.cli.session import Session
from provider.errors import LockBusyError, ManifestError, ProviderError, UsageError

if TYPE_CHECKING:
    from provider.engine.ports import Driver
    from provider.model.plan import Plan
    from provider.model.resource import Desired, World
    from provider.planning.report import Report


def show_plan(plan: "Plan", output: Output) -> None:
    """Print a plan."""
    from provider.planning import document, render

    if output is Output.TEXT:
        print(render.plan_text(plan, width=width(), colour=colour()), end="")
    elif output is Output.JSON:
        print_json(document.plan_json(plan))
    else:
        print_line({"event": "plan", "plan": document.plan_json(plan)})


def ask(plan: "Plan") -> bool:
    """Show *plan* and ask whether to go on; only people on a terminal are asked.

    Raises:
        UsageError: there is no terminal.
    """
    if not sys.stdin.isatty():
        raise UsageError("--confirm needs a terminal")
    show_plan(plan, Output.TEXT)
    return input("Apply this plan? [y/N] ").strip().lower() in ("y", "yes")


def carry_out(
    session: Session,
    plan: "Plan",
    desired: "Desired",
    world: "World",
    actors: "Sequence[Driver]",
    *,
    output: Output,
    on_failure: str,
) -> "tuple[Report, int]":
    """Apply *plan*, showing what happens; the report is printed at the end.

    Returns it, and the exit code: 0, 1 if anything failed, 128 + n if signal n ended it.
    """
    from provider.cli.planning import who
    from provider.engine.apply import ApplyOptions, apply
    from provider.engine.interrupt import on_signals

    options = ApplyOptions(who=who(), on_failure=on_failure)
    with on_signals() as interrupt:
        report = apply(
            plan,
            desired,
            world,
            actors,
            session.root.state,
            options=options,
            emit=make_progress(output, len(plan.pending)),
            interrupt=interrupt,
        )
    with reader_may_leave(sys.stdout):
        show_report(report, output)
    if report.interrupted and interrupt.signal is not None:
        return report, 128 + interrupt.signal
    return report, 1 if report.failed else 0


def show_report(report: "Report", output: Output) -> None:
    """Print what was done."""
    from provider.planning import document, render

    if output is Output.TEXT:
        print(render.report_text(report, width=width(), colour=colour()), end="")
    elif output is Output.JSON:
        print_json(document.report_json(report))
    else:
        print_line({"event": "report", "report": document.report_json(report)})


def show_failure(error: ProviderError, *, lines: bool) -> None:
    """Print the report of a run that *error* kept from acting, as JSON."""
    from provider.planning.document import failure_json
    from provider.planning.report import Failure

    code = _code(error)
    if isinstance(error, ManifestError):
        failures = [
            Failure(
                code,
                problem.message,
                path=problem.path,
                hint=problem.suggestion or problem.expected,
                origin=problem.origin,
            )
            for problem in error.problems
        ]
    else:
        retryable = isinstance(error, LockBusyError)
        failures = [Failure(code, str(error), retryable=retryable, hint=error.hint)]
    document = failure_json(None, failures)
    if lines:
        print_line({"event": "report", "report": document})
    else:
        print_json(document)


def _code(error: ProviderError) -> str:
    """Return the class as a word for programs: ``manifestInvalid``, ``refused`` ..."""
    if isinstance(error, ManifestError):
        return "manifestInvalid"
    name = type(error).__name__.removesuffix("Error")
    return name[0].lower() + name[1:]
