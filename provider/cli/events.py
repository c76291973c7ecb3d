"""`bayplan events`: what happens to containers, as it happens."""

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provider.cli.containers import find
from provider.cli.output import Output, plain, print_line
from provider.cli.session import Session
from provider.errors import UsageError

if TYPE_CHECKING:
    from runtime.container.happening import Happening


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(events)


def events(
    context: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[CONTAINER...]", help="Of all by default.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="DURATION", help="End after so long.")
    ] = None,
    output: Annotated[
        Output, typer.Option("-o", "--output", help="Format: text, or jsonl.")
    ] = Output.TEXT,
) -> None:
    """Tell of containers created, started, ended and removed, of their health, of oom and exec.

    From now on, until interrupted. Of what ended there are its exit code, the signal that ended
    it, and whether the kernel has killed in it for want of memory; oom tells so whenever that is,
    also where the container goes on.

    \b
    Examples:
      bayplan events
      bayplan events -o jsonl shop.web.0 | jq .type
    """
    from provider.cli import options
    from runtime.container.happening import happenings

    session: Session = context.obj
    session.require_root("events")
    if output is Output.JSON:
        raise UsageError("events have no end, so they are no one document", hint="-o jsonl")
    wanted = {find(session, name).id for name in names or ()}
    timeout = None if until is None else options.duration(until)
    for each in happenings(session.root, timeout=timeout):
        if wanted and each.id not in wanted:
            continue
        if output is Output.JSONL:
            print_line(_document(each))
        else:
            print(_line(each), flush=True)


def _document(each: "Happening") -> dict[str, Any]:
    head = {"time": each.time, "type": each.type, "id": each.id, "name": each.name}
    return {**head, **each.details}


def _line(each: "Happening") -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(each.time))
    words = [f"{whole}.{int(each.time % 1 * 1000):03}Z", each.name, each.type]
    words += [
        f"{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in each.details.items()
        if value not in (None, False, "")
    ]
    return plain(" ".join(words))
