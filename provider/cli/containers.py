"""What the verbs on single containers share."""

import re
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from provider.cli.output import complain
from provider.cli.refusal import refusal
from provider.cli.session import Session
from provider.errors import LockBusyError, ProviderError, RefusedError, RunError, UsageError

if TYPE_CHECKING:
    from runtime.container.containers import Containers
    from runtime.container.summary import Summary
    from runtime.root import Root
    from runtime.supervisor.status import Status


def open_containers(session: Session, verb: str) -> "Containers":
    """Return the containers of this world, for root only."""
    from runtime.container.containers import Containers

    session.require_root(verb)
    return Containers(session.root)


def find(session: Session, name: str) -> "Summary":
    """Return the container called *name*, or whose id begins with it.

    Raises:
        ProviderError: there is none.
    """
    from runtime.container import summary
    from runtime.errors import NotFoundError

    try:
        return summary.find(session.root, name)
    except NotFoundError as error:
        raise ProviderError(str(error)) from error


_INSTEAD = {
    "start": "`state: running` in its manifest starts it with the next apply",
    "stop": "`state: stopped` in its manifest stops it with the next apply",
    "restart": "with --override it is restarted; changes of its manifest do that by themselves",
    "pause": "no manifest asks for that",
    "unpause": "the next apply does that anyway",
    "kill": "`state: stopped` in its manifest stops it with the next apply",
    "rename": "change the name in its manifest, with formerName: the next apply renames it",
    "update": "change its manifest, and the next apply changes it",
    "rm": "take it out of its manifests, and the next apply removes it",
}


_NO_OVERRIDE = ("rename", "update", "restart")
"""Where what --override does is said already, or it is no option."""
_OVERRIDE = "with --override it is done now, and the next apply undoes it"


def refuse_managed(container: "Summary", verb: str) -> None:
    """Refuse to change by hand what a project looks after.

    Raises:
        RefusedError: names the project, what the next apply will do, and what to do instead.
    """
    if "project" in container.mark:
        mark = container.mark
        owner = f"{mark['kind']}/{mark['name']} of project {mark['project']}"
        raise RefusedError(
            f"cannot {verb} {container.name}: it belongs to {owner}",
            hint=_INSTEAD[verb] if verb in _NO_OVERRIDE else f"{_INSTEAD[verb]}; {_OVERRIDE}",
        )


@contextmanager
def called(container: "Summary", name: str) -> Iterator[None]:
    """Have what the runtime says of the container say *name*, as people typed; it knows ids.

    Raises:
        ProviderError: instead of the runtime's errors; LockBusyError where trying again may do.
    """
    from runtime.errors import BusyError, ContainerError

    try:
        yield
    except ContainerError as error:
        said = re.sub(rf"(?<!/){container.id}", lambda _: name, str(error))  # paths stay
        if isinstance(error, BusyError):
            raise LockBusyError(said, hint="try again when they have finished") from error
        raise ProviderError(said) from error


@contextmanager
def running() -> Iterator[None]:
    """Have all that keeps a program from running exit as `run` and `exec` do, but wrong words.

    Raises:
        RunError: instead of other errors, with the exit code of the program that could not be run.
    """
    from runtime.errors import ContainerError, KernelError, LaunchError

    try:
        yield
    except LaunchError as error:
        raise RunError(str(error), exit_code=error.exit_code) from error
    except UsageError:
        raise
    except (ContainerError, KernelError, ProviderError) as error:
        raise RunError(str(error), hint=getattr(error, "hint", "")) from error
    except OSError as error:
        worded = refusal(error)
        if worded is None:
            raise
        raise RunError(str(worded), hint=worded.hint) from error


def for_each(session: Session, names: Iterable[str], act: Callable[["Summary"], None]) -> int:
    """Do something with each container, and print its name; return the exit code.

    What cannot be done with one is said, and keeps nobody from doing it with the others.
    """
    code = 0
    for name in names:
        try:
            container = find(session, name)
            with called(container, name):
                act(container)
            print(name, flush=True)
        except ProviderError as error:
            complain(str(error), error.hint)
            code = 1
    return code


def tell_oom(name: str, status: "Status") -> None:
    """Say on standard error that a container has ended for want of memory, if it has."""
    if status.oom_killed:
        # A SIGKILL that was asked for is not the kernel's.
        own = status.signal == signal.SIGKILL and not status.stop_requested
        what = "its program" if own else "a process of it"
        complain(f"{name}: out of memory: the kernel has killed {what}")


def while_there(root: "Root", container_id: str) -> Callable[[], bool]:
    """Return what tells whether more may be written.

    No more is to come when it has been over for two looks: last words take a moment to the log.
    """
    from runtime.container.folders import config_file
    from runtime.errors import NotFoundError
    from runtime.supervisor import status

    over = 0

    def going() -> bool:
        nonlocal over
        try:
            ended = status.read(root, container_id).ended
        except NotFoundError:
            ended = not config_file(root, container_id).exists()
        over = over + 1 if ended else 0
        return over < 2

    return going
