"""`bayplan exec`: one more process in a running container."""

import os
import signal
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from provider.cli.containers import find, running
from provider.cli.output import complain
from provider.cli.session import Session
from provider.errors import EXIT_OURS, UsageError

if TYPE_CHECKING:
    from runtime.supervisor.client import Exec, Supervisor
    from runtime.supervisor.request import ExecRequest


_KILLED = 128 + signal.SIGKILL


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
    detach: Annotated[
        bool, typer.Option("-d", "--detach", help="Do not wait for it; its output is dropped.")
    ] = False,
    user: Annotated[str | None, typer.Option("-u", "--user", help="NAME[:GROUP].")] = None,
    workdir: Annotated[str | None, typer.Option("-w", "--workdir", help="Working folder.")] = None,
    env: Annotated[
        list[str] | None,
        typer.Option("-e", "--env", metavar="NAME[=VALUE]", help="Variable; by default, yours."),
    ] = None,
    env_file: Annotated[
        list[str] | None,
        typer.Option("--env-file", metavar="FILE", help="File with a variable a line."),
    ] = None,
) -> int:
    """Run a command inside a running container; exits with its code.

    Signals are handed on to it, and it is hung up (SIGHUP) if we are killed. Where nothing was
    run we exit as `bayplan run` does: 64, 125, 126 or 127.

    \b
    Examples:
      bayplan exec shop.redis redis-cli ping
      bayplan exec -it shop.web.0 sh
    """
    from provider.cli.environment import environment
    from provider.cli.streams import terminal_size
    from runtime.cgroup import Hierarchy
    from runtime.container.requests import cgroup_of, exec_request
    from runtime.supervisor.client import Supervisor

    session: Session = context.obj
    session.require_root("exec")
    if terminal and interactive and not os.isatty(0):
        raise UsageError("-it needs a terminal on standard input", hint="-i alone takes a pipe")
    if detach and (terminal or interactive):
        raise UsageError("-d does not go with -i or -t: nobody would be there to talk to")
    variables = environment(env, env_file)
    with running():
        hierarchy = Hierarchy.detect()
        request = exec_request(
            session.root,
            hierarchy,
            find(session, name).id,
            tuple(command),
            env=tuple(f"{key}={value}" for key, value in variables.items()),
            user=user,
            cwd=workdir,
            terminal=terminal,
            size=terminal_size(),
            attached=not detach,
        )
        supervisor = Supervisor(session.root)
        if detach:
            supervisor.exec(request).close()
            return 0
        group = cgroup_of(session.root, hierarchy, request.id)
        before = group.oom_kills()
        code = _talk(supervisor, request, interactive=interactive)
        if code == _KILLED and group.oom_kills() > before:
            complain(f"{name}: out of memory: the kernel has killed a process of it")
        return EXIT_OURS if code is None else code


def _talk(supervisor: "Supervisor", request: "ExecRequest", *, interactive: bool) -> int | None:
    """Start the process, be its other end until it ends, and return its exit code."""
    from provider.cli.leaving import Interrupted
    from provider.cli.streams import (
        Ending,
        Hangup,
        Pipes,
        ReaderGone,
        converse,
        forwarding,
        raw_terminal,
    )
    from runtime.errors import ContainerError

    def send(number: int) -> None:
        with suppress(ContainerError):  # it has just ended
            process.kill(number)

    streams = ("stdin", "stdout", "stderr") if interactive else ("stdout", "stderr")
    with ExitStack() as stack:
        pipes = Pipes(*(() if request.terminal else streams), uid=request.uid)
        stack.callback(pipes.close)
        null = os.open(os.devnull, os.O_RDONLY)
        stack.callback(os.close, null)
        theirs = {"stdin": null, **pipes.theirs}
        fds = () if request.terminal else (theirs["stdin"], theirs["stdout"], theirs["stderr"])
        process: Exec = stack.enter_context(supervisor.exec(request, fds))
        pipes.handed_over()
        if process.terminal is not None:
            pipes.join(process.terminal, *(("stdin", "stdout") if interactive else ("stdout",)))
        ending = Ending(process.wait)
        try:
            with (
                forwarding(send, terminal=process.terminal) as woken,
                raw_terminal(request.terminal and interactive),
            ):
                converse(pipes, ending, woken, whole=False)
                return ending.code()
        except (Interrupted, Hangup, ReaderGone) as gone:
            return 128 + gone.number
