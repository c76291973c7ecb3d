"""`bayplan inspect`: everything known of a container, as JSON."""

import dataclasses
from enum import StrEnum
from typing import Annotated

import typer

from provider.cli.containers import find
from provider.cli.output import Output, show
from provider.cli.session import Session


class Json(StrEnum):
    """Formats of a document that is for programs anyway."""

    JSON = "json"
    JSONL = "jsonl"


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(inspect)


def inspect(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="CONTAINER...", help="Names or ids.")],
    output: Annotated[Json, typer.Option("-o", "--output", help="Format.")] = Json.JSON,
) -> None:
    """Print config (with the OCI spec), status and attachments of containers.

    \b
    Examples:
      bayplan inspect shop.web.0 | jq '.[0].status'
    """
    from runtime.container.config import read_config
    from runtime.container.state import status_of
    from runtime.json_data import to_json
    from runtime.network.attachment import attachments

    session: Session = context.obj
    session.require_root("inspect")
    found = []
    for name in names:
        config = read_config(session.root, find(session, name).id)
        status = status_of(session.root, config.id)
        found.append(
            {
                "config": to_json(config),
                "status": to_json(status),
                "networks": [dataclasses.asdict(a) for a in attachments(session.root, config.id)],
            }
        )
    show(found, Output(output))
