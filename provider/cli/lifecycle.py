"""`bayplan start, stop, restart, pause, unpause, kill, rm, wait`: one container's life."""

from typing import TYPE_CHECKING, Annotated

import typer

from provider.cli import options
from provider.cli.containers import (
    find,
    for_each,
    open_containers,
    refuse_managed,
    tell_oom,
)
from provider.cli.output import complain
from provider.cli.session import Session
from provider.errors import EXIT_OURS, ProviderError, UsageError

if TYPE_CHECKING:
    from runtime.container.summary import Summary

Names = Annotated[list[str], typer.Argument(metavar="CONTAINER...", help="Names or ids.")]
Override = Annotated[
    bool,
    typer.Option("--override", help="Also what belongs to a project, whose next apply undoes it."),
]
Grace = Annotated[
    str | None, typer.Option("-t", "--time", metavar="DURATION", help="Before SIGKILL.")
]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    for verb in (start, stop, restart, pause, unpause, kill, rm, wait):
        app.command()(verb)


def start(context: typer.Context, names: Names, override: Override = False) -> int:
    """Start created or stopped containers.

    \b
    Examples:
      bayplan start page
    """
    session: Session = context.obj
    containers = open_containers(session, "start")

    def act(container: "Summary") -> None:
        _guard(container, "start", override=override)
        _warn(containers.start(container.id))

    return for_each(session, names, act)


def stop(
    context: typer.Context, names: Names, override: Override = False, time: Grace = None
) -> int:
    """Stop containers: the stop signal, then SIGKILL after the grace period.

    \b
    Examples:
      bayplan stop page
      bayplan stop -t 30s page other
    """
    session: Session = context.obj
    containers = open_containers(session, "stop")
    grace = None if time is None else options.duration(time)

    def act(container: "Summary") -> None:
        _guard(container, "stop", override=override)
        containers.stop(container.id, grace=grace)

    return for_each(session, names, act)


def restart(
    context: typer.Context, names: Names, override: Override = False, time: Grace = None
) -> int:
    """Stop and start containers.

    \b
    Examples:
      bayplan restart page
      bayplan restart --override shop.web.0
    """
    from runtime.container.config import read_config

    session: Session = context.obj
    containers = open_containers(session, "restart")
    grace = None if time is None else options.duration(time)

    def act(container: "Summary") -> None:
        _guard(container, "restart", override=override)
        if read_config(session.root, container.id).auto_remove:
            raise ProviderError(
                f"cannot restart {container.name}: it was run with --rm, and goes when it ends",
                hint="`bayplan run` makes another one",
            )
        containers.stop(container.id, grace=grace)
        _warn(containers.start(container.id))

    return for_each(session, names, act)


def pause(context: typer.Context, names: Names, override: Override = False) -> int:
    """Have all processes of containers stand still, where they are.

    Their health is not looked at until `bayplan unpause`; to clients they are silent.

    \b
    Examples:
      bayplan pause page
    """
    session: Session = context.obj
    containers = open_containers(session, "pause")

    def act(container: "Summary") -> None:
        _guard(container, "pause", override=override)
        containers.pause(container.id)

    return for_each(session, names, act)


def unpause(context: typer.Context, names: Names, override: Override = False) -> int:
    """Have paused containers go on.

    \b
    Examples:
      bayplan unpause page
    """
    session: Session = context.obj
    containers = open_containers(session, "unpause")

    def act(container: "Summary") -> None:
        _guard(container, "unpause", override=override)
        containers.unpause(container.id)

    return for_each(session, names, act)


def kill(
    context: typer.Context,
    names: Names,
    override: Override = False,
    signal_: Annotated[
        str, typer.Option("-s", "--signal", metavar="SIGNAL", help="Name or number.")
    ] = "KILL",
) -> int:
    """Send a signal to the first process of containers.

    \b
    Examples:
      bayplan kill page
      bayplan kill -s HUP page
    """
    session: Session = context.obj
    containers = open_containers(session, "kill")
    number = _signal(signal_)

    def act(container: "Summary") -> None:
        _guard(container, "kill", override=override)
        containers.kill(container.id, number)

    return for_each(session, names, act)


def rm(
    context: typer.Context,
    names: Names,
    force: Annotated[bool, typer.Option("-f", "--force", help="Also what runs.")] = False,
    override: Override = False,
) -> int:
    """Remove containers, with everything that is theirs; named volumes stay.

    \b
    Examples:
      bayplan rm page
      bayplan rm -f --override shop.web.0
    """
    from runtime.container.recovery import sweep_images

    session: Session = context.obj
    containers = open_containers(session, "rm")

    def act(container: "Summary") -> None:
        _guard(container, "rm", override=override)
        state = containers.status(container.id).state
        if state in ("running", "restarting") and not force:
            raise ProviderError(
                f"cannot remove {container.name}: it is {state}",
                hint="`bayplan stop` it first, or say -f",
            )
        containers.remove(container.id, force=force)

    code = for_each(session, names, act)
    sweep_images(session.root)
    return code


def wait(context: typer.Context, names: Names) -> int:
    """Wait until containers have ended, and print their exit codes, one a line.

    Exits with the last of them, or with 125 if there is a container that cannot be waited for.

    \b
    Examples:
      bayplan wait page
    """
    from runtime.container.state import status_of
    from runtime.errors import ContainerError
    from runtime.supervisor.client import Supervisor

    session: Session = context.obj
    session.require_root("wait")
    code, all_known = 0, True
    for name in names:
        try:
            container = find(session, name)
            status = status_of(session.root, container.id)
            if not status.ended:
                status = Supervisor(session.root).await_end(container.id)
        except (ContainerError, ProviderError) as error:
            complain(str(error))
            all_known = False
            continue
        tell_oom(name, status)
        ended = status.exit_code
        code = EXIT_OURS if ended is None else ended
        print("unknown" if ended is None else ended, flush=True)
    return code if all_known else EXIT_OURS


def _guard(container: "Summary", verb: str, *, override: bool) -> None:
    if not override:
        refuse_managed(container, verb)


def _warn(warnings: tuple[str, ...]) -> None:
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)


def _signal(word: str) -> int:
    """Return the number of a signal as people write it.

    Raises:
        UsageError: there is no such signal.
    """
    from provider.model.signals import signal_number

    try:
        return signal_number(word)
    except ValueError as error:
        raise UsageError(str(error)) from None
