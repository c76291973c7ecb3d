"""The cgroup of a container."""

import binascii
import functools
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from runtime.cgroup.group import Cgroup
from runtime.cgroup.hierarchy import Hierarchy
from runtime.errors import ConflictError, ContainerError, UnsupportedHostError
from runtime.spec import Resources

_PARENT = "bayplan-oci"
"""Where the groups of containers are that do not say where."""


def group_name(config: dict[str, Any], container_id: str, root: str) -> str:
    """Return the name of the container's group, from its cgroupsPath.

    Without one it is made from the id and the *root* below which that is unique.

    Raises:
        ContainerError: that is no path.
    """
    own = f"/{_PARENT}/{binascii.crc32(os.fsencode(root)):08x}-{container_id}"
    path = (config.get("linux") or {}).get("cgroupsPath") or own
    if ":" in path and not path.startswith("/"):
        raise ContainerError(f"cgroupsPath {path} is for the cgroup manager systemd")
    name = path.strip("/")
    if {"", ".", ".."}.intersection(name.split("/")):
        raise ContainerError(f"cgroupsPath {path} is no path of a group")
    return name


@functools.cache
def _hierarchy() -> Hierarchy:
    return Hierarchy.detect()


def open_group(name: str | None) -> Cgroup | None:
    """Return the group, which need not exist; None where containers have none."""
    return None if name is None else Cgroup.of_caller(_hierarchy(), name)


def make(name: str, resources: Resources) -> Cgroup:
    """Return the new group *name*, with these limits; on failure there is none of ours.

    Raises:
        ConflictError: it exists, even if empty. That of a stopped container is still its own:
            when that is deleted all in the group are killed.
        UnsupportedHostError: this host cannot enforce one of the limits.
    """
    group = Cgroup.of_caller(_hierarchy(), name)
    taken = ConflictError(f"cgroup {name} exists already: it is another container's")
    if group.exists():
        raise taken
    try:
        _must_be_all(group.create(resources, claim=True))
    except ConflictError:
        raise taken from None
    except BaseException:
        remove(group)
        raise
    return group


def limit(group: Cgroup, resources: Resources) -> None:
    """Change a group to have these limits.

    Raises:
        UnsupportedHostError: this host cannot enforce one of them.
    """
    _must_be_all(group.update(resources))


def _must_be_all(missing: tuple[str, ...]) -> None:
    if missing:
        raise UnsupportedHostError("; ".join(missing))


def remove(group: Cgroup) -> None:
    """Kill all that is left in the group, and take it away.

    Raises:
        StateError: something survives.
    """
    if not group.exists():
        return
    group.kill()
    group.delete()
    if group.name.startswith(f"{_PARENT}/"):
        for mount in group.hierarchy.folders():
            with suppress(OSError):  # others are in it
                os.rmdir(f"{mount}/{_PARENT}")


def remove_unused(group: Cgroup) -> None:
    """Take the group away if nothing is in it: it may be ours or somebody else's."""
    if not group.pids():
        group.delete(nested=False)


def is_frozen(name: str | None) -> bool:
    """Tell whether the group stands still."""
    group = open_group(name)
    return group is not None and group.is_frozen()


def members(name: str | None, pid: int) -> Iterator[int]:
    """Yield the container's processes: without a group, only the first is known."""
    group = open_group(name)
    yield from (pid,) if group is None else group.pids()
