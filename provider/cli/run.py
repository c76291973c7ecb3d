"""`bayplan run`: one container by hand, of no project."""

import signal
import sys
import threading
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provider.cli import options
from provider.cli.session import Session
from provider.errors import EXIT_OURS, ProviderError, RunError, UsageError

if TYPE_CHECKING:
    from runtime.container.config import ContainerConfig
    from runtime.container.containers import Containers


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command(context_settings={"allow_interspersed_args": False})(run)


def run(
    context: typer.Context,
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="Name, as `bayplan images` lists.")],
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[COMMAND...]", help="Instead of the image's.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the container.")] = None,
    detach: Annotated[bool, typer.Option("-d", "--detach", help="Do not wait for it.")] = False,
    remove: Annotated[bool, typer.Option("--rm", help="Remove it when it has ended.")] = False,
    env: Annotated[
        list[str] | None, typer.Option("-e", "--env", metavar="NAME=VALUE", help="Variable.")
    ] = None,
    volume: Annotated[
        list[str] | None,
        typer.Option("-v", "--volume", metavar="SOURCE:TARGET[:ro]", help="Bind of a host path."),
    ] = None,
    publish: Annotated[
        list[str] | None,
        typer.Option("-p", "--publish", metavar="[IP:]PORT:TARGET[/udp]", help="Published port."),
    ] = None,
    user: Annotated[str | None, typer.Option("-u", "--user", help="NAME[:GROUP].")] = None,
    workdir: Annotated[str | None, typer.Option("-w", "--workdir", help="Working folder.")] = None,
    network: Annotated[
        str, typer.Option("--network", metavar="bridge|host|none", help="Kind of network.")
    ] = "bridge",
    memory: Annotated[str | None, typer.Option("-m", "--memory", help="Limit: 64Mi.")] = None,
    cpus: Annotated[float | None, typer.Option("--cpus", help="Limit in cores.")] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Root read-only.")] = False,
    init: Annotated[bool, typer.Option("--init", help="An init as pid 1 that reaps.")] = False,
    restart: Annotated[str, typer.Option("--restart", help="Restart policy.")] = "no",
) -> int:
    """Run a command in a new container that belongs to no project and is never pruned.

    Exits with the command's code; 125, 126 and 127 as in Docker.

    \b
    Examples:
      bayplan run --rm quickstart/python python3 -c 'print("hello")'
      bayplan run -d --name page -p 8081:80 quickstart/python python3 -m http.server 80
    """
    from provider.drivers.single import Request, make_single
    from runtime.errors import ContainerError, LaunchError
    from runtime.supervisor.request import RESTART_POLICIES

    session: Session = context.obj
    session.require_root("run")
    if restart not in RESTART_POLICIES:
        raise UsageError(f"--restart {restart}", hint="one of: " + ", ".join(RESTART_POLICIES))
    if remove and restart != "no":
        raise UsageError("--rm and --restart do not go together")
    if cpus is not None and not 0.01 <= cpus <= 4096:
        raise UsageError(f"--cpus {cpus}", hint="between 0.01 and 4096 cores")
    request = Request(
        image=image,
        command=tuple(command or ()),
        name=name,
        env=tuple(env or ()),
        volumes=tuple(volume or ()),
        publish=tuple(publish or ()),
        user=user,
        workdir=workdir,
        network=network,
        memory_bytes=None if memory is None else options.size(memory),
        cpus=cpus,
        read_only=read_only,
        init=init,
        restart=restart,
        # In the foreground it is removed here, once its exit code is known.
        remove=remove and detach,
    )
    try:
        containers, config = make_single(session.root, request)
        try:
            for warning in containers.start(config.id):
                print(f"warning: {warning}", file=sys.stderr)
        except BaseException:
            containers.remove(config.id, force=True)
            raise
        if detach:
            print(config.id)
            return 0
        return _follow(containers, config, remove=remove)
    except LaunchError as error:
        raise RunError(str(error), exit_code=error.exit_code) from error
    except (ContainerError, ProviderError) as error:
        raise RunError(str(error), hint=getattr(error, "hint", "")) from error


def _follow(containers: "Containers", config: "ContainerConfig", *, remove: bool) -> int:
    """Show the container's output until it ends, hand signals on, return its exit code."""
    from runtime.container.containers import log_folder
    from runtime.errors import StateError
    from runtime.supervisor.logs import read_chunks

    def hand_on(number: int, _frame: Any) -> None:
        def send() -> None:
            try:
                containers.kill(config.id, number)
            except StateError:
                return

        threading.Thread(target=send).start()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, hand_on)

    def going() -> bool:
        return not containers.status(config.id).ended

    streams = {"stdout": sys.stdout.buffer, "stderr": sys.stderr.buffer}
    folder = str(log_folder(containers.root, config.id))
    try:
        for chunk in read_chunks(folder, going=going, history=True):
            streams[chunk.stream].write(chunk.data)
            streams[chunk.stream].flush()
        status = containers.status(config.id)
        return EXIT_OURS if status.exit_code is None else status.exit_code
    finally:
        # Also when nobody reads our output any more (`| head`).
        if remove:
            containers.remove(config.id, force=True)
        else:
            containers.stop(config.id)
