"""Containers as lists show them, and as people name them.

Decoding whole configs costs more than all else that a verb like ``ps`` or ``kill`` does.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from runtime.container.folders import config_file
from runtime.documents import parse_state
from runtime.errors import DamagedError, NotFoundError
from runtime.root import Root


class Summary(NamedTuple):
    """What everybody wants to know of a container; members as in ContainerConfig."""

    id: str
    name: str
    image: str
    arguments: tuple[str, ...]
    mark: dict[str, str]
    created_at: float


def summaries(root: Root, damaged: list[DamagedError] | None = None) -> Iterator[Summary]:
    """Yield every container of this world, by id; reads only, and needs no supervisor.

    Those whose config cannot be read back are left out, and told of in *damaged*.
    """
    with suppress(FileNotFoundError):
        for name in sorted(os.listdir(root.state / "containers")):
            with suppress(FileNotFoundError, NotADirectoryError):
                path = config_file(root, name)
                data = path.read_bytes()
                try:
                    config = parse_state(path, data)
                except DamagedError as error:
                    if damaged is not None:
                        damaged.append(error)
                else:
                    yield _summary(config)


def find(root: Root, name_or_id: str) -> Summary:
    """Return the container of that name, id, or unambiguous beginning of an id.

    Of several with the name (one is being replaced by the other), the youngest.

    Raises:
        NotFoundError: there is none, or more than one id begins so.
        DamagedError: its config cannot be read back.
    """
    damaged: list[DamagedError] = []
    everything = list(summaries(root, damaged))
    exact = [c for c in everything if name_or_id in (c.name, c.id)]
    if exact:
        return max(exact, key=lambda c: c.created_at)
    found = [c for c in everything if name_or_id and c.id.startswith(name_or_id)]
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(c.id for c in found)
        raise NotFoundError(f"more than one container id begins with {name_or_id}: {ids}")
    for error in damaged:
        if Path(error.path).parent.name.startswith(name_or_id):
            raise error
    raise NotFoundError(f"no container {name_or_id}; `bayplan ps -a` lists them")


def _summary(config: dict[str, Any]) -> Summary:
    return Summary(
        id=config["id"],
        name=config["name"],
        image=config.get("image", ""),
        arguments=tuple(config["spec"]["process"]["args"]),
        mark=config.get("mark", {}),
        created_at=config.get("createdAt", 0.0),
    )
