"""Containers as lists show them, and as people name them.

Decoding whole configs costs more than all else that a verb like ``ps`` or ``kill`` does.
"""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from runtime.container.folders import config_file
from runtime.errors import NotFoundError
from runtime.root import Root


class Summary(NamedTuple):
    """What everybody wants to know of a container; members as in ContainerConfig."""

    id: str
    name: str
    image: str
    arguments: tuple[str, ...]
    mark: dict[str, str]
    created_at: float


def summaries(root: Root) -> Iterator[Summary]:
    """Yield every container of this world, by id; reads only, and needs no supervisor."""
    with suppress(FileNotFoundError):
        for name in sorted(os.listdir(root.state / "containers")):
            with suppress(FileNotFoundError, NotADirectoryError):
                yield _summary(json.loads(config_file(root, name).read_bytes()))


def find(root: Root, name_or_id: str) -> Summary:
    """Return the container of that name, id, or unambiguous beginning of an id.

    Of several with the name (one is being replaced by the other), the youngest.

    Raises:
        NotFoundError: there is none, or more than one id begins so.
    """
    everything = list(summaries(root))
    exact = [c for c in everything if name_or_id in (c.name, c.id)]
    if exact:
        return max(exact, key=lambda c: c.created_at)
    found = [c for c in everything if c.id.startswith(name_or_id)]
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(c.id for c in found)
        raise NotFoundError(f"more than one container id begins with {name_or_id}: {ids}")
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
