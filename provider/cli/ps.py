"""`bayplan ps`: containers."""

import time
from typing import Annotated

import typer

from provider.cli.output import Output, complain, plain, show, table
from provider.cli.session import Session

_COMMAND = 30
"""Characters of a command that are shown."""


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(ps)


def ps(
    context: typer.Context,
    everything: Annotated[
        bool, typer.Option("-a", "--all", help="Those that do not run as well.")
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Ids only.")] = False,
    no_trunc: Annotated[bool, typer.Option("--no-trunc", help="Nothing is cut.")] = False,
    output: Annotated[Output, typer.Option("-o", "--output", help="Format.")] = Output.TEXT,
) -> None:
    """List containers, managed or not.

    \b
    Examples:
      bayplan ps -a
      bayplan ps -q
    """
    from runtime.container.state import status_of
    from runtime.container.summary import summaries
    from runtime.errors import DamagedError

    session: Session = context.obj
    session.require_root("ps")
    damaged: list[DamagedError] = []
    known = summaries(session.root, damaged)
    found = [(each, status_of(session.root, each.id)) for each in known]
    for error in damaged:
        complain(str(error))
    if not everything:
        found = [(c, s) for c, s in found if s.state in ("running", "restarting")]
    if output is not Output.TEXT:
        show(
            [
                {
                    "id": container.id,
                    "name": container.name,
                    "image": container.image,
                    "state": status.state,
                    "paused": status.paused,
                    "pid": status.pid or None,
                    "exitCode": status.exit_code,
                    "oomKilled": status.oom_killed,
                    "health": status.health,
                    "restarts": status.restarts,
                    "createdAt": container.created_at,
                    "startedAt": status.started_at,
                    "project": container.mark.get("project"),
                    "command": list(container.arguments),
                }
                for container, status in found
            ],
            output,
        )
        return
    if quiet:
        print("".join(f"{container.id}\n" for container, _ in found), end="")
        return
    rows = []
    for container, status in found:
        words = status.state
        if status.state == "running" and status.started_at:
            words = f"up {_span(time.time() - status.started_at)}"
            words += ", paused" if status.paused else ""
        elif status.state == "exited":
            words = f"exited ({'unknown' if status.exit_code is None else status.exit_code})"
            words += ", out of memory" if status.oom_killed and not status.stop_requested else ""
        if status.health != "none" and status.state == "running":
            words += f", {status.health}"
        command = plain(" ".join(container.arguments))
        if len(command) > _COMMAND and not no_trunc:
            command = command[: _COMMAND - 1] + "…"
        rows.append([container.id, container.name, command, words])
    print(table(rows, ["ID", "NAME", "COMMAND", "STATUS"], whole=no_trunc))


def _span(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"
