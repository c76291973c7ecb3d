"""`bayplan start, stop, restart, kill, rm, wait`: one container's life."""

import signal
from typing import Annotated

import typer

from provider.cli import options
from provider.cli.containers import find, open_containers, refuse_managed
from provider.cli.session import Session
from provider.errors import UsageError

Names = Annotated[list[str], typer.Argument(metavar="CONTAINER...", help="Names or ids.")]
Force = Annotated[
    bool, typer.Option("-f", "--force", help="Also what runs, or belongs to a project.")
]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    for verb in (start, stop, restart, kill, rm, wait):
        app.command()(verb)


def start(context: typer.Context, names: Names) -> None:
    """Start created or stopped containers."""
    session: Session = context.obj
    containers = open_containers(session, "start")
    for name in names:
        for warning in containers.start(find(session, name).id):
            typer.echo(f"warning: {warning}", err=True)
        print(name)


def stop(
    context: typer.Context,
    names: Names,
    force: Force = False,
    time: Annotated[
        str | None, typer.Option("-t", "--time", metavar="DURATION", help="Before SIGKILL.")
    ] = None,
) -> None:
    """Stop containers: the stop signal, then SIGKILL after the grace period."""
    session: Session = context.obj
    containers = open_containers(session, "stop")
    for name in names:
        config = find(session, name)
        if not force:
            refuse_managed(config, "stop")
        containers.stop(config.id, grace=None if time is None else options.duration(time))
        print(name)


def restart(context: typer.Context, names: Names) -> None:
    """Stop and start containers."""
    session: Session = context.obj
    containers = open_containers(session, "restart")
    for name in names:
        containers.restart(find(session, name).id)
        print(name)


def kill(
    context: typer.Context,
    names: Names,
    force: Force = False,
    signal_: Annotated[
        str, typer.Option("-s", "--signal", metavar="SIGNAL", help="Name or number.")
    ] = "KILL",
) -> None:
    """Send a signal to the first process of containers."""
    session: Session = context.obj
    containers = open_containers(session, "kill")
    number = _signal(signal_)
    for name in names:
        config = find(session, name)
        if not force:
            refuse_managed(config, "kill")
        containers.kill(config.id, number)
        print(name)


def rm(context: typer.Context, names: Names, force: Force = False) -> None:
    """Remove containers, with everything that is theirs; named volumes stay."""
    session: Session = context.obj
    containers = open_containers(session, "rm")
    for name in names:
        config = find(session, name)
        if not force:
            refuse_managed(config, "rm")
        containers.remove(config.id, force=force)
        print(name)


def wait(context: typer.Context, names: Names) -> int:
    """Wait until containers have ended, and print their exit codes; the last is ours."""
    from runtime.supervisor.client import Supervisor

    session: Session = context.obj
    containers = open_containers(session, "wait")
    code = 0
    for name in names:
        config = find(session, name)
        status = containers.status(config.id)
        ended = status.exit_code if status.ended else Supervisor(session.root).wait(config.id)
        code = 125 if ended is None else ended
        print("unknown" if ended is None else ended)
    return code


def _signal(word: str) -> int:
    if word.isdigit():
        return int(word)
    try:
        return signal.Signals["SIG" + word.upper().removeprefix("SIG")]
    except KeyError:
        raise UsageError(f"there is no signal {word}") from None
