"""`bayplan delete`: take a project away again, in reverse order."""

from contextlib import nullcontext
from dataclasses import replace
from typing import Annotated

import typer

from provider.cli import options
from provider.cli.output import Output
from provider.cli.session import Session, check_project, projects
from provider.errors import RefusedError, UsageError


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(options.spread(delete))


def delete(
    context: typer.Context,
    inputs: options.Inputs,
    only: options.Only = None,
    selector: options.Selector = None,
    delete_volumes: options.DeleteVolumes = False,
    lock_timeout: options.LockTimeout = "10s",
    output: Annotated[Output, typer.Option("-o", "--output", help="Format of the report.")] = (
        Output.TEXT
    ),
) -> int:
    """Remove what a project brought up, dependents first. Volumes stay, and are listed.

    To delete what is not there is no error.

    \b
    Examples:
      bayplan delete -p shop
      bayplan delete -f site/ --delete-volumes
    """
    from provider.cli.planning import drivers, warn, who
    from provider.cli.show import carry_out
    from provider.engine.lock import project_lock
    from provider.engine.observe import observe, preflight
    from provider.manifest.select import select
    from provider.model.resource import Desired
    from provider.planning.options import PlanOptions
    from provider.planning.plan import make_delete_plan
    from runtime.container.recovery import recover

    session: Session = context.obj
    session.require_root("delete")
    selected = None
    warnings: tuple[str, ...] = ()
    if inputs.file:
        desired = inputs.load(session)
        chosen = select(desired, selector=selector or "", only=tuple(only or ()))
        selected = chosen.chosen if chosen.partial else None
        warnings = chosen.warnings
        name = desired.project
    elif inputs.project and not only and not selector:
        name = check_project(inputs.project)
    elif inputs.project:
        raise UsageError(
            "--only and -l choose among the resources of files", hint="name the files with -f"
        )
    else:
        raise UsageError(
            "nothing to delete is named", hint="name a project with -p, or files with -f"
        )
    state = session.root.state
    empty = Desired(name, ())
    wanted = PlanOptions(
        delete_volumes=delete_volumes, selected=selected, allow_empty=True, allow_prune=True
    )
    actors = drivers(session)
    timeout_s = options.duration(lock_timeout)
    known = name in projects(session)
    if not known:
        warnings = (f"no project {name} was ever applied on this host",)
    lock = project_lock(state, name, owner=who(), reason="delete", timeout_s=timeout_s)
    with lock if known else nullcontext():  # nothing is made for a name never applied
        if known:
            recover(session.root)
        world = observe(state, name, actors, held=known)
        plan = make_delete_plan(name, world, wanted)
        # What else is found is about what comes up or stays.
        plan = replace(plan, refusals=preflight(plan, actors).refusals)
        plan = warn(plan, warnings, output)
        if plan.refusals:
            raise RefusedError("\n".join(plan.refusals))
        _, code = carry_out(
            session, plan, empty, world, actors, output=output, on_failure="continue"
        )
    return code
