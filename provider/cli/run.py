"""`bayplan run`: one container by hand, of no project."""

import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from provider.cli.containers import running, tell_oom
from provider.cli.creation import (
    NETWORKS,
    Files,
    Life,
    Limits,
    Net,
    Program,
    Rights,
    container_spec,
)
from provider.cli.detach import DEFAULT_KEYS, Detached, DetachKeys
from provider.cli.options import spread
from provider.cli.output import complain
from provider.cli.session import Session
from provider.errors import EXIT_OURS, UsageError

if TYPE_CHECKING:
    from runtime.container.config import ContainerConfig
    from runtime.container.containers import Containers
    from runtime.supervisor.status import Status


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command(context_settings={"allow_interspersed_args": False})(spread(run))


def run(
    context: typer.Context,
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="Name, as `bayplan images` lists.")],
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[COMMAND...]", help="Instead of the image's.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Name of the container.")
    ] = None,
    detach: Annotated[bool, typer.Option("-d", "--detach", help="Do not wait for it.")] = False,
    interactive: Annotated[
        bool, typer.Option("-i", "--interactive", help="Hand standard input on.")
    ] = False,
    terminal: Annotated[bool, typer.Option("-t", "--tty", help="Give it a terminal.")] = False,
    remove: Annotated[bool, typer.Option("--rm", help="Remove it when it has ended.")] = False,
    detach_keys: Annotated[
        str, typer.Option("--detach-keys", metavar="KEYS", help="Typed at -it, they leave it.")
    ] = DEFAULT_KEYS,
    *,
    program: Program,
    files: Files,
    net: Net,
    limits: Limits,
    rights: Rights,
    life: Life,
) -> int:
    """Run a command in a new container that belongs to no project and is never pruned.

    In the foreground it ends with us, signals are handed on to it, and we exit with its code;
    only if we are killed (SIGKILL), or leave it by the detach keys, does it run on, its output
    kept in its log alone (see `bayplan attach`).
    Where nothing was run: 64 if the command line makes no sense, 127 if there is no such program,
    126 if it cannot be executed, 125 for anything else.

    \b
    Examples:
      bayplan run --rm quickstart/python python3 -c 'print("hello")'
      bayplan run --rm -it quickstart/python python3
      bayplan run -d --name page -p 8081:80 quickstart/python python3 -m http.server 80
    """
    from provider.cli import words
    from provider.cli.leaving import Interrupted, deferring
    from provider.drivers.single import Request, make_single

    session: Session = context.obj
    session.require_root("run")
    keys = DetachKeys(detach_keys)
    if remove and life.restart != "no":
        raise UsageError("--rm and --restart do not go together")
    if terminal and interactive and not detach and not os.isatty(0):
        raise UsageError("-it needs a terminal on standard input", hint="-i alone takes a pipe")
    if detach and interactive and not terminal:
        raise UsageError("-d does not go with -i alone: nobody could write to it")
    request = Request(
        container_spec(
            image,
            tuple(command) if command else None,
            terminal=terminal,
            program=program,
            files=files,
            net=net,
            limits=limits,
            rights=rights,
            life=life,
        ),
        name=name,
        labels=words.labels(program.label),
        publish=words.publications(net.publish),
        remove=remove,
        network_of=words.other_container("--network", net.network, others=NETWORKS),
        pid_of=words.other_container("--pid", rights.pid),
    )
    try:
        with running(), deferring() as leave_if_asked:
            containers, config, warnings = make_single(session.root, request)
            _warn(warnings)
            if not detach:
                return _foreground(
                    containers, config, leave_if_asked, keys, interactive=interactive
                )
            try:
                _warn(containers.start(config.id))
                leave_if_asked()
            except BaseException:
                _remove(containers, config)
                raise
        print(config.id)
        return 0
    except Interrupted as gone:
        return 128 + gone.number


def _foreground(
    containers: "Containers",
    config: "ContainerConfig",
    leave_if_asked: Callable[[], None],
    keys: DetachKeys,
    *,
    interactive: bool,
) -> int:
    """Start it, be the other end of its streams until it has ended, return its exit code.

    Unless this is left by *keys*, the container does not run on; one to be removed is gone.
    """
    from provider.cli.leaving import Interrupted
    from provider.cli.streams import Hangup, ReaderGone
    from runtime.errors import NotFoundError

    grace: float | None = 0.0
    runs_on = False
    try:
        code = _talk(containers, config, leave_if_asked, keys, interactive=interactive)
        grace = None
        return EXIT_OURS if code is None else code
    except Detached:
        runs_on = True
        return 0
    except (Interrupted, Hangup, ReaderGone) as gone:
        return 128 + gone.number
    finally:
        if not runs_on:
            with suppress(NotFoundError):  # somebody has removed it
                if config.auto_remove or containers.status(config.id).state in ("created", "dead"):
                    _remove(containers, config)
                else:
                    containers.stop(config.id, grace=grace)


def _remove(containers: "Containers", config: "ContainerConfig") -> None:
    from runtime.container.recovery import sweep_images

    containers.remove(config.id, force=True)
    sweep_images(containers.root)


def _talk(
    containers: "Containers",
    config: "ContainerConfig",
    leave_if_asked: Callable[[], None],
    keys: DetachKeys,
    *,
    interactive: bool,
) -> int | None:
    from provider.cli.streams import (
        Ending,
        Pipes,
        converse,
        forwarding,
        raw_terminal,
        terminal_size,
    )
    from runtime.errors import ContainerError
    from runtime.supervisor.client import Supervisor

    def send(number: int) -> None:
        with suppress(ContainerError):  # it has just ended
            containers.kill(config.id, number)

    terminal, supervisor = config.spec.process.terminal, Supervisor(containers.root)
    names = ["stdout"] if terminal else ["stdout", "stderr"]
    if interactive and not terminal:
        names.insert(0, "stdin")
    with ExitStack() as stack:
        pipes = Pipes(*names, uid=config.spec.process.user.uid)
        stack.callback(pipes.close)
        _warn(containers.start(config.id, streams=pipes.theirs, size=terminal_size()))
        pipes.handed_over()
        ends: list[Status] = []

        def wait() -> int | None:
            ends.append(supervisor.await_end(config.id))
            return ends[0].exit_code

        ending = Ending(wait)
        master = None
        if terminal:
            with suppress(ContainerError):  # it has ended already
                master = supervisor.attach(config.id)
                stack.callback(os.close, master)
                pipes.join(master, *(["stdin"] if interactive else []))
        with forwarding(send, terminal=master) as woken, raw_terminal(terminal and interactive):
            leave_if_asked()
            # Its streams end when all that it has written is here.
            converse(pipes, ending, woken, whole=True, keys=keys if terminal else None)
            code = ending.code()
        tell_oom(config.name, ends[0])
        return code


def _warn(warnings: tuple[str, ...]) -> None:
    for warning in warnings:
        complain(f"warning: {warning}")
