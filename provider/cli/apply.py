"""`bayplan apply`: make it so."""

from typing import Annotated

import typer

from provider.cli import options
from provider.cli.output import Output
from provider.cli.plan import EXIT_CHANGED
from provider.cli.session import Session
from provider.errors import RefusedError, UsageError

_ON_FAILURE = ("continue", "stop")


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(options.spread(apply))


def apply(
    context: typer.Context,
    inputs: options.Inputs,
    scope: options.Scope,
    lock_timeout: options.LockTimeout = "10s",
    on_failure: Annotated[
        str,
        typer.Option(
            "--on-failure",
            metavar="|".join(_ON_FAILURE),
            help="What a failed step means for those that do not depend on it.",
        ),
    ] = "continue",
    output: Annotated[Output, typer.Option("-o", "--output", help="Format of the report.")] = (
        Output.TEXT
    ),
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit with 2 if anything was changed.")
    ] = False,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Show the plan and ask first, on a terminal.")
    ] = False,
) -> int:
    """Converge this host to the manifests. Applying twice changes nothing the second time.

    What -l or --only choose brings along what it needs; nothing else is touched then.

    \b
    Examples:
      bayplan apply -f site/
      bayplan apply -f site/ --only Service/web
      bayplan apply -f - -o jsonl < site.yaml
    """
    from provider.cli.planning import drivers, observers, plan_desired, warn, who
    from provider.cli.show import ask, carry_out
    from provider.engine.key import ensure_key
    from provider.engine.lock import project_lock
    from runtime.container.recovery import recover

    session: Session = context.obj
    session.require_root("apply")
    if on_failure not in _ON_FAILURE:
        raise UsageError(f"--on-failure {on_failure}", hint="one of: " + ", ".join(_ON_FAILURE))
    state = session.root.state
    if not state.exists():
        inputs.load(session)  # an invalid manifest must not leave a trace on a fresh host
        session.make_root()
    desired = inputs.load(session, hmac_key=ensure_key(state))
    chosen, wanted = scope.choose(desired)
    with project_lock(
        state,
        desired.project,
        owner=who(),
        reason="apply",
        timeout_s=options.duration(lock_timeout),
    ):
        recover(session.root)
        found, world = plan_desired(session, chosen.desired, wanted, observers(session), held=True)
        found = warn(found, chosen.warnings, output)
        if found.refusals:
            raise RefusedError("\n".join(found.refusals))
        if confirm and not found.is_empty and not ask(found):
            return 1
        # Those who act are not even loaded where there is nothing to do.
        actors = () if found.is_empty else drivers(session)
        report, code = carry_out(
            session, found, chosen.desired, world, actors, output=output, on_failure=on_failure
        )
    return EXIT_CHANGED if detailed_exitcode and report.changed and not code else code
