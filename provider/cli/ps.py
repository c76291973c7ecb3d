"""`bayplan ps`: containers."""

import time
from typing import Annotated

import typer

from provider.cli.containers import open_containers
from provider.cli.output import Output, print_json, table
from provider.cli.session import Session


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(ps)


def ps(
    context: typer.Context,
    everything: Annotated[
        bool, typer.Option("-a", "--all", help="Those that do not run as well.")
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Ids only.")] = False,
    output: Annotated[Output, typer.Option("-o", "--output", help="Format.")] = Output.TEXT,
) -> None:
    """List containers, managed or not.

    \b
    Examples:
      bayplan ps -a
      bayplan ps -q
    """
    from runtime.container.config import list_configs

    session: Session = context.obj
    containers = open_containers(session, "ps")
    found = [(config, containers.status(config.id)) for config in list_configs(session.root)]
    if not everything:
        found = [(c, s) for c, s in found if s.state in ("running", "restarting")]
    if output is not Output.TEXT:
        print_json(
            [
                {
                    "id": config.id,
                    "name": config.name,
                    "image": config.image,
                    "state": status.state,
                    "pid": status.pid or None,
                    "exitCode": status.exit_code,
                    "health": status.health,
                    "restarts": status.restarts,
                    "createdAt": config.created_at,
                    "startedAt": status.started_at,
                    "project": config.mark.get("project"),
                    "command": list(config.spec.process.args),
                }
                for config, status in found
            ]
        )
        return
    if quiet:
        print("".join(f"{config.id}\n" for config, _ in found), end="")
        return
    rows = []
    for config, status in found:
        words = status.state
        if status.state == "running" and status.started_at:
            words = f"up {_span(time.time() - status.started_at)}"
        elif status.state == "exited":
            words = f"exited ({'unknown' if status.exit_code is None else status.exit_code})"
        if status.health != "none" and status.state == "running":
            words += f", {status.health}"
        command = " ".join(config.spec.process.args)
        command = command if len(command) <= 30 else command[:29] + "…"
        rows.append([config.id, config.name, command, words])
    print(table(rows, ["ID", "NAME", "COMMAND", "STATUS"]))


def _span(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"
