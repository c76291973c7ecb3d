"""``start``."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, nullcontext

from runtime.cli.arguments import only
from runtime.cli.context import Context
from runtime.cli.folder import Folder, Status, condition, state_of
from runtime.cli.group import is_frozen
from runtime.errors import LaunchError, StateError
from runtime.kernel.bare import socket
from runtime.supervisor.report import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.cli.notify import Notification

_MOST_BYTES = 65536


def start(context: Context, values: Mapping[str, list[str]], rest: list[str]) -> int:
    """Let the process of a created container go on to its exec."""
    folder = context.folder(only(rest))
    with ExitStack() as opened:
        with folder.locked():
            status = folder.read()
            word = condition(folder, status, frozen=is_frozen(status))
            if word != "created":
                if word != "paused":
                    folder.mark_started()  # by a `start` that was killed
                raise StateError(f"cannot start container {folder.id}: it is {word}")
            notify = opened.enter_context(notification(context, folder, status))
            start_process(context, folder, status)
        if notify is not None:
            notify.wait()
    return 0


@contextmanager
def notification(
    context: Context, folder: Folder, status: Status
) -> Iterator["Notification | None"]:
    """Yield what the container's process notifies, if our caller wants to be told by it."""
    if not os.environ.get("NOTIFY_SOCKET"):
        yield None
        return
    from runtime.cli.notify import Notification

    found = Notification.wanted(folder, status, context.report.warning)
    with found or nullcontext():
        yield found


def start_process(context: Context, folder: Folder, status: Status) -> None:
    """Have the waiting process execute its program, then run the poststart hooks.

    Raises:
        LaunchError: a startContainer hook or the exec failed, and the process has ended; or it was
            killed before; or a poststart hook failed, or one of these was given up, and the
            process was killed.
        StateError: the process is gone.
    """
    try:
        connection = folder.connect()
    except ConnectionRefusedError:
        raise StateError(f"the process of container {folder.id} is gone") from None
    through = False
    with closing(connection):
        # Its end is closed by exec, and by death.
        while data := _hear(context, status, connection):
            message = parse(data)
            if "error" in message:
                raise LaunchError(message["error"], exit_code=message["exitCode"])
            if "warning" in message:
                context.report.warning(message["warning"])
            through = through or "started" in message
    if not through:
        text = f"the process of container {folder.id} ended before it could execute its program"
        raise LaunchError(text)
    if folder.read_config().get("hooks"):
        _run_poststart(context, folder, status)


def _hear(context: Context, status: Status, connection: socket.socket) -> bytes:
    """Return what the process says next, nothing when it executes its program or has ended."""
    try:
        context.wait(connection.fileno(), None)
    except LaunchError:
        from runtime.cli.ending import kill_process

        kill_process(status)
        raise
    return connection.recv(_MOST_BYTES)


def _run_poststart(context: Context, folder: Folder, status: Status) -> None:
    from runtime.cli.bundle import to_spec
    from runtime.cli.ending import kill_process
    from runtime.cli.hooks import run_all

    spec = to_spec(folder.read_config(), status.bundle, warn=lambda _text: None)
    try:
        run_all(spec.hooks.poststart, state_of(status, "running"), context.wait, folder)
    except (LaunchError, StateError):
        kill_process(status)
        raise
