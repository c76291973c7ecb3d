"""The mount option ``idmap=uids=0-1-10#10-100-10;gids=@0-1-10``, which is crun's. Pure.

Source: crun(1), "idmap mount options".
"""

from collections.abc import Sequence

from runtime.errors import ContainerError
from runtime.spec import IdMapping


def parse_idmap(
    text: str, uids: Sequence[IdMapping], gids: Sequence[IdMapping]
) -> tuple[tuple[IdMapping, ...], tuple[IdMapping, ...]]:
    """Return the uid and gid mappings of a bind: id in the file system, id on the host, size.

    After an ``@`` the second is an id of the container's, whose own mappings are *uids* and *gids*.

    Raises:
        ContainerError: that is not its form, or such an id is not mapped.
    """
    found: dict[str, tuple[IdMapping, ...]] = {"uids": (), "gids": ()}
    for part in text.split(";"):
        kind, _, ranges = part.partition("=")
        if kind not in found or found[kind]:
            raise ContainerError(f"mount option idmap={text}: give uids=... and gids=...")
        own = uids if kind == "uids" else gids
        found[kind] = tuple(_mapping(each, own) for each in ranges.split("#"))
    return found["uids"], found["gids"]


def _mapping(text: str, own: Sequence[IdMapping]) -> IdMapping:
    numbers = text.removeprefix("@").removeprefix("+").split("-")
    if len(numbers) != 3 or not all(each.isdecimal() for each in numbers):
        raise ContainerError(f"mount option idmap: {text} is no range, as 0-1000-10")
    inside, host, size = map(int, numbers)
    if text.startswith("@"):
        for mapping in own:
            if mapping.container_id <= inside < mapping.container_id + mapping.size:
                host += mapping.host_id - mapping.container_id
                break
        else:
            raise ContainerError(f"mount option idmap: {text} is not mapped in the container")
    return IdMapping(inside, host, size)
