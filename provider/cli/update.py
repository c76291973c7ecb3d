"""`bayplan update` and `bayplan rename`: changes of containers made by hand."""

from typing import TYPE_CHECKING, Annotated

import typer

from provider.cli.containers import called, find, for_each, refuse_managed
from provider.cli.output import complain
from provider.cli.session import Session
from provider.errors import UsageError

if TYPE_CHECKING:
    from provider.drivers.single_update import Update
    from runtime.container.summary import Summary


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(update)
    app.command()(rename)


def update(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="CONTAINER...", help="Names or ids.")],
    memory: Annotated[
        str | None, typer.Option("-m", "--memory", metavar="SIZE", help="Limit: 64Mi; -1: none.")
    ] = None,
    memory_swap: Annotated[
        str | None,
        typer.Option("--memory-swap", metavar="SIZE", help="Memory and swap together, -1: none."),
    ] = None,
    memory_reservation: Annotated[
        str | None,
        typer.Option("--memory-reservation", metavar="SIZE", help="Kept when memory is short."),
    ] = None,
    cpus: Annotated[
        float | None, typer.Option("--cpus", metavar="CORES", help="Limit in cores.")
    ] = None,
    cpuset_cpus: Annotated[
        str | None, typer.Option("--cpuset-cpus", metavar="LIST", help="Only these cores: 0-2,4.")
    ] = None,
    pids_limit: Annotated[
        int | None,
        typer.Option("--pids-limit", metavar="N", help="Number of tasks, 0 or -1: no limit."),
    ] = None,
    restart: Annotated[
        str | None,
        typer.Option("--restart", metavar="POLICY", help="no, on-failure[:N], always, ..."),
    ] = None,
) -> int:
    """Change limits and restart policy of containers while they run; what is not said stays.

    A memory limit below what is in use is refused, nobody is killed for it.

    \b
    Examples:
      bayplan update -m 128Mi --cpus 0.5 page
    """
    from provider.cli import words
    from provider.drivers.single_update import Update, update_single

    session: Session = context.obj
    session.require_root("update")

    def size(option: str, text: str | None) -> int | None:
        if text is None or text == "-1":
            return None if text is None else -1
        return words.size(option, text)

    wanted = Update(
        memory=size("--memory", memory),
        memory_swap=size("--memory-swap", memory_swap),
        memory_reservation=size("--memory-reservation", memory_reservation),
        cpus=cpus,
        cpuset=cpuset_cpus,
        pids=-1 if pids_limit == 0 else pids_limit,
        restart=None if restart is None else words.restart(restart),
    )
    if wanted == Update():
        raise UsageError("nothing to change is given", hint="such as --memory 128Mi")
    _check(wanted)

    def act(container: "Summary") -> None:
        refuse_managed(container, "update")
        for warning in update_single(session.root, container.id, wanted):
            complain(f"warning: {warning}")

    return for_each(session, names, act)


def _check(wanted: "Update") -> None:
    """Refuse what no manifest could ask for either.

    Raises:
        UsageError: tells all that is wrong.
    """
    from provider.cli.checked import checked
    from provider.model import specs

    def limit(value: int | None) -> int | None:
        return None if value == -1 else value

    resources = specs.Resources(
        memory=limit(wanted.memory),
        memory_reservation=limit(wanted.memory_reservation),
        cpus=wanted.cpus,
        cpuset=wanted.cpuset,
        pids=limit(wanted.pids),
    )
    restart = wanted.restart or specs.Restart()
    checked(specs.ContainerSpec(specs.ImageRef("any"), resources=resources, restart=restart), ())


def rename(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="CONTAINER", help="Name or id.")],
    new_name: Annotated[str, typer.Argument(metavar="NEW", help="What it is called from now on.")],
) -> None:
    """Give a container another name, on its networks too; its own host name stays.

    \b
    Examples:
      bayplan rename page front
    """
    from provider.drivers.single_update import rename_single

    session: Session = context.obj
    session.require_root("rename")
    container = find(session, name)
    refuse_managed(container, "rename")
    with called(container, name):
        rename_single(session.root, container.id, new_name)
