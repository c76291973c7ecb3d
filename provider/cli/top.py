"""`bayplan top`: the processes of a container."""

from typing import Annotated

import typer

from provider.cli.containers import find, open_containers
from provider.cli.output import Output, show, table
from provider.cli.session import Session
from provider.errors import ProviderError


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(top)


def top(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="CONTAINER", help="Name or id.")],
    output: Annotated[Output, typer.Option("-o", "--output", help="Format.")] = Output.TEXT,
) -> None:
    """List the processes of a container, those put into it by exec too.

    PID is the host's, INNER what the container itself calls it; users are the host's.

    \b
    Examples:
      bayplan top shop.redis
    """
    from runtime.container.processes import list_processes
    from runtime.json_data import to_json

    session: Session = context.obj
    containers = open_containers(session, "top")
    container = find(session, name)
    found = list_processes(containers.cgroup(container.id))
    if not found:
        raise ProviderError(
            f"{name} has no processes: it is {containers.status(container.id).state}"
        )
    if output is not Output.TEXT:
        show([to_json(process) for process in found], output)
        return
    rows = [
        [
            str(process.pid),
            str(process.inner_pid),
            str(process.parent),
            str(process.uid),
            process.state,
            _clock(process.age),
            _clock(process.cpu_time),
            f"{process.rss_bytes >> 10} KiB",
            " ".join(process.command),
        ]
        for process in found
    ]
    header = ["PID", "INNER", "PARENT", "UID", "STATE", "AGE", "CPU TIME", "RESIDENT", "COMMAND"]
    print(table(rows, header))


def _clock(seconds: float) -> str:
    """Return hours, minutes and seconds as ps(1) has them."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest:02}"
