"""`bayplan logs`: what a container wrote."""

import sys
import time
from typing import Annotated

import typer

from provider.cli.containers import find, while_there
from provider.cli.session import Session
from provider.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(logs)


def logs(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="CONTAINER", help="Name or id.")],
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as it writes.")] = False,
    tail: Annotated[
        int | None, typer.Option("--tail", metavar="N", min=0, help="The last N lines only.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="WHEN", help="10m, or a time: 2026-01-31T12:00:00Z."),
    ] = None,
    timestamps: Annotated[
        bool, typer.Option("-t", "--timestamps", help="The time before each line.")
    ] = False,
) -> None:
    """Print a container's log: standard output to stdout, standard error to stderr.

    With -f, until it has ended for good, or is removed; restarts by its policy are followed.

    \b
    Examples:
      bayplan logs -f --tail 20 shop.web.0
    """
    from runtime.container.folders import log_folder
    from runtime.supervisor.logs import read

    session: Session = context.obj
    session.require_root("logs")
    config = find(session, name)
    lines = read(
        str(log_folder(session.root, config.id)),
        since=None if since is None else _moment(since),
        tail=tail,
        follow=follow,
        going=while_there(session.root, config.id),
    )
    streams = {"stdout": sys.stdout.buffer, "stderr": sys.stderr.buffer}
    begun: set[str] = set()
    for line in lines:
        stream = streams[line.stream]
        if timestamps and line.stream not in begun:
            whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(line.time))
            stream.write(f"{whole}.{int(line.time % 1 * 1000):03}Z ".encode())
        stream.write(line.data + b"\n" if line.complete else line.data)
        (begun.discard if line.complete else begun.add)(line.stream)
        stream.flush()


def _moment(text: str) -> float:
    """Return seconds since the epoch.

    Raises:
        UsageError: neither a duration nor a time.
    """
    import datetime

    from provider.model.units import parse_duration

    try:
        return time.time() - parse_duration(text)
    except ValueError:
        pass
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise UsageError(f"--since {text}", hint="10m, or 2026-01-31T12:00:00Z") from None
