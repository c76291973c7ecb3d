"""`bayplan plan`: what an apply would do, and why. Changes nothing."""

from typing import Annotated

import typer

from provider.cli import options
from provider.cli.inputs import load_desired
from provider.cli.output import Output
from provider.cli.session import Session

EXIT_CHANGED = 2


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(plan)


def plan(
    context: typer.Context,
    file: options.Files = None,
    project: options.ProjectName = None,
    set_: options.Sets = None,
    values: options.Values = None,
    secret_values: options.SecretValues = None,
    overlay: options.Overlays = None,
    template: options.Template = False,
    selector: options.Selector = None,
    only: options.Only = None,
    partial: options.Partial = False,
    allow_empty: options.AllowEmpty = False,
    allow_prune: options.AllowPrune = False,
    accept_data_loss: options.AcceptDataLoss = False,
    delete_volumes: options.DeleteVolumes = False,
    refresh_images: options.RefreshImages = False,
    rerun_job: options.RerunJob = None,
    output: Annotated[Output, typer.Option("-o", "--output", help="Format of the plan.")] = (
        Output.TEXT
    ),
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit with 2 if anything is pending.")
    ] = False,
) -> int:
    r"""Show what apply would do: every field old and new, where it is written, what it takes.

    \b
    Examples:
      bayplan plan -f site/
      bayplan plan -f site/ --detailed-exitcode -o json
    """
    from provider.cli.planning import choose, observers, plan_desired, selected
    from provider.cli.show import show_plan
    from provider.engine.key import read_key
    from provider.planning.options import PlanOptions

    session: Session = context.obj
    session.require_root("plan")
    desired = load_desired(
        session,
        file,
        project=project,
        sets=set_,
        values=values,
        secret_values=secret_values,
        overlays=overlay,
        template=template,
        hmac_key=read_key(session.root.state),
    )
    chosen = choose(desired, selector, only)
    wanted = PlanOptions(
        partial=partial or chosen.partial,
        selected=selected(chosen),
        allow_empty=allow_empty,
        allow_prune=allow_prune,
        accept_data_loss=accept_data_loss,
        delete_volumes=delete_volumes,
        refresh_images=refresh_images,
        rerun_jobs=frozenset(rerun_job or ()),
    )
    found, _ = plan_desired(session, chosen.desired, wanted, observers(session))
    show_plan(found, output)
    if found.refusals:
        return 1
    return EXIT_CHANGED if detailed_exitcode and not found.is_empty else 0
