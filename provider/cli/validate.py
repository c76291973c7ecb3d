"""`bayplan validate` and `bayplan normalize`: is the input right, and what does it mean."""

from typing import Annotated

import typer

from provider.cli import options
from provider.cli.inspect import Json
from provider.cli.output import Output, show
from provider.cli.session import Session


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(options.spread(validate))
    app.command()(options.spread(normalize))


def validate(
    context: typer.Context,
    inputs: options.Inputs,
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="Say nothing if all is right.")
    ] = False,
    output: Annotated[Output, typer.Option("-o", "--output", help="Format of the report.")] = (
        Output.TEXT
    ),
) -> None:
    """Check manifests; every problem is shown with its place. Needs no root, changes nothing.

    With -o json a report (`bayplan schema report`); problems are its `errors`.

    \b
    Examples:
      bayplan validate -f site/
      bayplan validate -f site/ --overlay site/overlays/prod
      bayplan validate -f site/ -o json | jq '.errors[].message'
    """
    from provider.cli.show import show_report
    from provider.planning.report import Report

    session: Session = context.obj
    desired = inputs.load(session)
    if output is not Output.TEXT:
        show_report(Report(desired.project, ()), output)
    elif not quiet:
        count = len(desired.resources)
        print(f"project {desired.project}: {count} resource{'s' * (count != 1)}, no problems")


def normalize(
    context: typer.Context,
    inputs: options.Inputs,
    output: Annotated[Json, typer.Option("-o", "--output", help="Format.")] = Json.JSON,
) -> None:
    """Print the manifests in canonical form, as JSON: defaults filled in, short forms expanded.

    \b
    Examples:
      bayplan normalize -f site/ | jq '.resources[].id'
    """
    session: Session = context.obj
    desired = inputs.load(session)
    resources = [
        {
            "id": str(resource.id),
            "kind": str(resource.id.kind),
            "name": resource.id.name,
            "labels": dict(resource.labels),
            "hosts": list(resource.hosts),
            "spec": resource.spec,
        }
        for resource in desired.resources
    ]
    show({"project": desired.project, "resources": resources}, Output(output))
