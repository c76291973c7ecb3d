"""The cgroup of a container."""

from __future__ import annotations

import binascii
import functools
import os
from collections.abc import Iterator
from contextlib import suppress

from runtime.cgroup.group import Cgroup
from runtime.cgroup.hierarchy import Hierarchy, parents
from runtime.cli.folder import Status
from runtime.cli.report import clear_up
from runtime.errors import ConflictError, ContainerError, UnsupportedHostError
from runtime.kernel.procfs import is_running
from runtime.record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from runtime.spec import Resources

_PARENT = "bayplan-oci"
"""Where the groups of containers are that do not say where."""


def group_name(config: dict[str, Any], container_id: str, root: str) -> str:
    """Return the name of the container's group, from its cgroupsPath.

    Without one it is made from the id and the *root* below which that is unique.

    Raises:
        ContainerError: that is no path.
    """
    own = f"/{_PARENT}/{binascii.crc32(os.fsencode(root)):08x}/{container_id}"
    path = (config.get("linux") or {}).get("cgroupsPath") or own
    if ":" in path and not path.startswith("/"):
        raise ContainerError(f"cgroupsPath {path} is for the cgroup manager systemd")
    name = path.strip("/")
    if {"", ".", ".."}.intersection(name.split("/")):
        raise ContainerError(f"cgroupsPath {path} is no path of a group")
    return name


@functools.cache
def hierarchy() -> Hierarchy:
    """Return where this host has its controllers."""
    return replace(Hierarchy.detect(), whole=True)


def open_group(status: Status) -> Cgroup | None:
    """Return a container's group, which need not exist; None if it has none (any more)."""
    if status.cgroup is None:
        return None
    group = named_group(status.cgroup)
    if status.cgroup_inode is not None and group.inode() not in (None, status.cgroup_inode):
        return None  # another's: this one's ended with its scope, or somebody took it away
    return group


def are_delegated() -> bool:
    """Tell whether groups can be made: root of a user namespace may have been given none."""
    return not hierarchy().is_empty


def refuse_limits(resources: Resources) -> None:
    """Refuse limits where there are no groups; rules about devices need none, see `Hierarchy`.

    Raises:
        UnsupportedHostError: names them.
    """
    from runtime.cgroup.layout import lay_out, refuse

    layout = lay_out(hierarchy(), resources)
    refuse(layout)
    _must_be_all(layout.warnings)


def named_group(name: str) -> Cgroup:
    """Return the group of that name, which need not exist."""
    return Cgroup.of_caller(hierarchy(), name)


def make(name: str, resources: Resources) -> Cgroup:
    """Return the new group *name*, with these limits; on failure there is none of ours.

    Raises:
        ConflictError: it exists, even if empty. That of a stopped container is still its own:
            when that is deleted all in the group are killed.
        UnsupportedHostError: this host cannot enforce one of the limits.
    """
    group = named_group(name)
    # Said before there is a group: what is removed below is killed, and then it must be ours.
    group.refuse_unmet(resources)
    taken = ConflictError(
        f"cgroup {name} exists already, of another container or left over by one: "
        "where nothing is in it, rmdir removes it"
    )
    if group.exists():
        raise taken
    try:
        _must_be_all(group.create(resources, claim=True))
    except ConflictError:
        raise taken from None
    except BaseException as cause:
        clear_up(cause, lambda: remove(group))
        raise
    return group


def limit(status: Status, group: Cgroup, resources: Resources) -> None:
    """Change a container's group to have these limits; not atomic, see `Cgroup.update`.

    Raises:
        UnsupportedHostError: this host cannot enforce one of them; mostly before any is changed.
    """
    refuse_limits(resources)
    if status.scope is None:
        _must_be_all(group.update(resources))
    else:
        from runtime.cli import scope

        _must_be_all(scope.change(status.scope, group, resources))


def _must_be_all(missing: tuple[str, ...]) -> None:
    if missing:
        raise UnsupportedHostError("; ".join(missing))


def remove(group: Cgroup, unit: str | None = None) -> None:
    """Kill all that is left in the group, and take it away, with the scope *unit* it is of.

    Raises:
        StateError: something survives.
    """
    if not group.exists():
        return
    group.kill()
    if unit is not None:
        from runtime.cli import scope

        scope.stop(unit)
    group.delete()
    if group.name.startswith(f"{_PARENT}/"):
        for mount in group.hierarchy.folders():
            with suppress(OSError):  # others are in it
                for parent in reversed(parents(group.name)):
                    os.rmdir(f"{mount}/{parent}")


def remove_unused(group: Cgroup) -> None:
    """Take the group away if nothing is in it: it may be ours or somebody else's."""
    if not group.pids():
        group.delete(nested=False)


def is_frozen(status: Status) -> bool:
    """Tell whether the container's group stands still."""
    group = open_group(status)
    return group is not None and group.is_frozen()


def members(status: Status) -> Iterator[int]:
    """Yield the container's processes: without a group, only the first is known.

    Others may have outlived that one, where there is no pid namespace.
    """
    group = open_group(status)
    if group is not None:
        yield from group.pids()
    elif is_running(status.pid, status.start):
        yield status.pid
