"""The cgroup of a container."""

import binascii
import functools
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from runtime.cgroup.group import Cgroup
from runtime.cgroup.hierarchy import Hierarchy
from runtime.cgroup.layout import lay_out, refuse
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


def are_delegated() -> bool:
    """Tell whether groups can be made: root of a user namespace may have been given none."""
    return not _hierarchy().is_empty


def refuse_limits(resources: Resources) -> None:
    """Refuse limits where there are no groups; rules about devices need none, see `Hierarchy`.

    Raises:
        UnsupportedHostError: names them.
    """
    layout = lay_out(_hierarchy(), resources)
    refuse(layout)
    if layout.warnings:
        raise UnsupportedHostError("; ".join(layout.warnings))


def new_group(name: str | None) -> Cgroup | None:
    """Return the group of a container that is being made; None where containers have none.

    Raises:
        ConflictError: it exists, even if empty. That of a stopped container is still its own:
            when that is deleted all in the group are killed.
    """
    group = open_group(name)
    if group is not None and group.exists():
        raise ConflictError(f"cgroup {name} exists already: it is another container's")
    return group


def limit(group: Cgroup, resources: Resources, *, new: bool) -> None:
    """Make a *new* group, or change one, to have these limits.

    Raises:
        UnsupportedHostError: this host cannot enforce one of them.
    """
    missing = (group.create if new else group.update)(resources)
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
