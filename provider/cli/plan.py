"""`bayplan plan`: what an apply would do, and why. Changes nothing."""

from typing import Annotated

import typer

from provider.cli import options
from provider.cli.output import Output
from provider.cli.session import Session

EXIT_CHANGED = 2


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(options.spread(plan))


def plan(
    context: typer.Context,
    inputs: options.Inputs,
    scope: options.Scope,
    output: Annotated[Output, typer.Option("-o", "--output", help="Format of the plan.")] = (
        Output.TEXT
    ),
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit with 2 if anything is pending.")
    ] = False,
) -> int:
    """Show what apply would do: every field old and new, where it is written, what it takes.

    What -l or --only choose brings along what it needs; nothing else is touched then.

    \b
    Examples:
      bayplan plan -f site/
      bayplan plan -f site/ --detailed-exitcode -o json
    """
    from provider.cli.planning import observers, plan_desired, warn
    from provider.cli.show import show_plan
    from provider.engine.key import read_key

    session: Session = context.obj
    session.require_root("plan")
    desired = inputs.load(session, hmac_key=read_key(session.root.state))
    chosen, wanted = scope.choose(desired)
    found, _ = plan_desired(session, chosen.desired, wanted, observers(session))
    found = warn(found, chosen.warnings, output)
    show_plan(found, output)
    if found.refusals:
        return 1
    return EXIT_CHANGED if detailed_exitcode and not found.is_empty else 0
