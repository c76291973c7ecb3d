"""What the verbs on single containers share."""

from typing import TYPE_CHECKING

from provider.cli.session import Session
from provider.errors import ProviderError, RefusedError

if TYPE_CHECKING:
    from runtime.container.config import ContainerConfig
    from runtime.container.containers import Containers


def open_containers(session: Session, verb: str) -> "Containers":
    """Return the containers of this world, for root only."""
    from runtime.container.containers import Containers

    session.require_root(verb)
    return Containers(session.root)


def find(session: Session, name: str) -> "ContainerConfig":
    """Return the container called *name*, or whose id begins with it."""
    from runtime.container.config import find_config
    from runtime.errors import NotFoundError

    try:
        return find_config(session.root, name)
    except NotFoundError as error:
        raise ProviderError(str(error)) from error


def refuse_managed(config: "ContainerConfig", verb: str) -> None:
    """Refuse to change by hand what a project looks after.

    Raises:
        RefusedError: names the project and what to do.
    """
    if "project" in config.mark:
        owner = f"{config.mark['kind']}/{config.mark['name']} of project {config.mark['project']}"
        raise RefusedError(
            f"cannot {verb} {config.name}: it belongs to {owner}",
            hint="change its manifest and apply; say --force to do it all the same: the next"
            " apply undoes it",
        )
