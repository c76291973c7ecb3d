"""`bayplan validate` and `bayplan normalize`: is the input right, and what does it mean."""

import json
from typing import Annotated

import typer

from provider.cli import options
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
) -> None:
    """Check manifests; every problem is shown with its place. Needs no root, changes nothing.

    \b
    Examples:
      bayplan validate -f site/
      bayplan validate -f site/ --overlay site/overlays/prod
    """
    session: Session = context.obj
    desired = inputs.load(session)
    if not quiet:
        count = len(desired.resources)
        print(f"project {desired.project}: {count} resource{'s' * (count != 1)}, no problems")


def normalize(
    context: typer.Context,
    inputs: options.Inputs,
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
    print(json.dumps({"project": desired.project, "resources": resources}, indent=2))
