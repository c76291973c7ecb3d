"""`bayplan attach`: the streams of a container that runs already."""

import os
import threading
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from provider.cli.containers import called, find, open_containers, while_there
from provider.cli.detach import DEFAULT_KEYS, Detached, DetachKeys
from provider.cli.session import Session
from provider.errors import EXIT_OURS, ProviderError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from provider.cli.streams import Pipes
    from runtime.container.containers import Containers
    from runtime.supervisor.logs import Chunk


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(attach)


def attach(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="CONTAINER", help="Name or id.")],
    no_stdin: Annotated[
        bool, typer.Option("--no-stdin", help="Only look on: nothing typed is handed on.")
    ] = False,
    detach_keys: Annotated[
        str, typer.Option("--detach-keys", metavar="KEYS", help="Typed, they leave the terminal.")
    ] = DEFAULT_KEYS,
    sig_proxy: Annotated[
        bool, typer.Option("--sig-proxy", help="Hand signals on; without, they end us alone.")
    ] = False,
) -> int:
    """Show what a running container writes, and type into its terminal, if it has one.

    It runs on when we leave: by the detach keys, or by ctrl-c where it has no terminal. When it
    ends we exit with its code. Several may be attached at a time.

    \b
    Examples:
      bayplan attach page
      bayplan attach --detach-keys ctrl-x console
    """
    session: Session = context.obj
    containers = open_containers(session, "attach")
    keys = DetachKeys(detach_keys)
    container = find(session, name)
    found = containers.status(container.id)
    if found.state != "running":
        raise ProviderError(f"cannot attach to {name}: it is {found.state}")
    with called(container, name):
        return _talk(containers, container.id, keys, types=not no_stdin, proxy=sig_proxy)


def _talk(
    containers: "Containers", container_id: str, keys: DetachKeys, *, types: bool, proxy: bool
) -> int:
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
    from runtime.container.folders import log_folder
    from runtime.errors import ContainerError, StateError
    from runtime.supervisor.client import Supervisor
    from runtime.supervisor.logs import follow_chunks

    supervisor = Supervisor(containers.root)

    def send(number: int) -> None:
        if not proxy:
            raise Interrupted(number)
        with suppress(ContainerError):  # it has just ended
            containers.kill(container_id, number)

    with ExitStack() as stack:
        pipes = Pipes("stdout", "stderr", uid=0)
        stack.callback(pipes.close)
        terminal = None
        with suppress(StateError):  # it has none
            terminal = supervisor.attach(container_id)
            stack.callback(os.close, terminal)
        typing = terminal is not None and types
        if typing and not os.isatty(0):
            raise UsageError(
                "standard input is no terminal", hint="with --no-stdin we only look on"
            )
        if terminal is not None and typing:
            pipes.join(terminal, "stdin")
        folder = log_folder(containers.root, container_id)
        chunks = follow_chunks(folder, going=while_there(containers.root, container_id))
        threading.Thread(target=_hand_over, args=(chunks, pipes), daemon=True).start()
        ending = Ending(lambda: supervisor.wait(container_id))
        try:
            with (
                forwarding(send, terminal=terminal if typing else None) as woken,
                raw_terminal(typing),
            ):
                # What it writes ends when all of it has been read from the log.
                converse(pipes, ending, woken, whole=True, keys=keys)
                code = ending.code()
                return EXIT_OURS if code is None else code
        except Detached:
            return 0
        except (Interrupted, Hangup, ReaderGone) as gone:
            return 128 + gone.number


def _hand_over(chunks: "Iterator[Chunk]", pipes: "Pipes") -> None:
    """Write what the container writes into *pipes*, and end them when it ends."""
    try:
        with suppress(OSError):  # we have left
            for chunk in chunks:
                view = memoryview(chunk.data)
                while view:
                    view = view[os.write(pipes.theirs[chunk.stream], view) :]
    finally:  # whatever has happened: who reads would wait for ever
        pipes.handed_over()
