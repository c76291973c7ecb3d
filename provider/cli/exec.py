"""`bayplan exec`: one more process in a running container."""

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from provider.cli.containers import find, open_containers
from provider.cli.session import Session
from provider.errors import EXIT_OURS, ProviderError, RunError, UsageError

if TYPE_CHECKING:
    from runtime.supervisor.client import Exec


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command("exec", context_settings={"allow_interspersed_args": False})(exec_)


def exec_(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="CONTAINER", help="Name or id.")],
    command: Annotated[list[str], typer.Argument(metavar="COMMAND...", help="What to run.")],
    interactive: Annotated[
        bool, typer.Option("-i", "--interactive", help="Hand standard input on.")
    ] = False,
    terminal: Annotated[bool, typer.Option("-t", "--tty", help="Give it a terminal.")] = False,
    user: Annotated[str | None, typer.Option("-u", "--user", help="NAME[:GROUP].")] = None,
    workdir: Annotated[str | None, typer.Option("-w", "--workdir", help="Working folder.")] = None,
    env: Annotated[
        list[str] | None, typer.Option("-e", "--env", metavar="NAME=VALUE", help="Variable.")
    ] = None,
) -> int:
    """Run a command inside a running container; exits with its code.

    \b
    Examples:
      bayplan exec shop.redis redis-cli ping
      bayplan exec -it shop.web.0 sh
    """
    from runtime.errors import ContainerError, LaunchError
    from runtime.supervisor.client import Supervisor

    session: Session = context.obj
    containers = open_containers(session, "exec")
    if terminal and not sys.stdin.isatty():
        raise UsageError("-t needs a terminal on standard input")
    for item in env or ():
        if "=" not in item:
            raise UsageError(f"-e {item}", hint="NAME=VALUE")
    try:
        config = find(session, name)
        request = containers.exec_request(
            config.id,
            tuple(command),
            env=tuple(env or ()),
            user=user,
            cwd=workdir,
            terminal=terminal,
            size=os.get_terminal_size() if terminal else None,
        )
        supervisor = Supervisor(session.root, start=False)
        if terminal:
            with supervisor.exec(request) as process:
                return _converse(process)
        null = os.open(os.devnull, os.O_RDONLY)
        stdin = sys.stdin.fileno() if interactive else null
        with supervisor.exec(request, (stdin, sys.stdout.fileno(), sys.stderr.fileno())) as process:
            code = process.wait()
        return EXIT_OURS if code is None else code
    except LaunchError as error:
        raise RunError(str(error), exit_code=error.exit_code) from error
    except (ContainerError, ProviderError) as error:
        raise RunError(str(error), hint=getattr(error, "hint", "")) from error


def _converse(process: "Exec") -> int:
    """Join the user's terminal with the process's until it ends."""
    import selectors
    import signal
    import termios
    import tty
    from contextlib import suppress

    master = process.terminal
    if master is None:
        raise ProviderError("the process was given no terminal")
    stdin, stdout = sys.stdin.fileno(), sys.stdout.fileno()
    former = termios.tcgetattr(stdin)

    def resize(*_: object) -> None:
        size = os.get_terminal_size()
        process.resize(size.lines, size.columns)

    signal.signal(signal.SIGWINCH, resize)
    selector = selectors.DefaultSelector()
    selector.register(master, selectors.EVENT_READ)
    selector.register(stdin, selectors.EVENT_READ)
    tty.setraw(stdin)
    try:
        while True:
            for key, _ in selector.select():
                if key.fd == stdin:
                    typed = os.read(stdin, 4096)
                    if typed:
                        os.write(master, typed)
                    else:
                        selector.unregister(stdin)
                    continue
                data = b""
                with suppress(OSError):  # EIO: the last process has closed it
                    data = os.read(master, 65536)
                if not data:
                    code = process.wait()
                    return EXIT_OURS if code is None else code
                os.write(stdout, data)
    finally:
        termios.tcsetattr(stdin, termios.TCSADRAIN, former)
