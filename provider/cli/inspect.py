"""`bayplan inspect`: everything known of a container, as JSON."""

import dataclasses
from typing import Annotated

import typer

from provider.cli.containers import find, open_containers
from provider.cli.output import print_json
from provider.cli.session import Session


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(inspect)


def inspect(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="CONTAINER...", help="Names or ids.")],
) -> None:
    """Print config (with the OCI spec), status and attachments of containers.

    \b
    Examples:
      bayplan inspect shop.web.0 | jq '.[0].status'
    """
    from runtime.network.network import attachments
    from runtime.spec import to_json

    session: Session = context.obj
    containers = open_containers(session, "inspect")
    found = []
    for name in names:
        config = find(session, name)
        status = containers.status(config.id)
        found.append(
            {
                "config": to_json(config),
                "status": to_json(status),
                "networks": [dataclasses.asdict(a) for a in attachments(session.root, config.id)],
            }
        )
    print_json(found)
