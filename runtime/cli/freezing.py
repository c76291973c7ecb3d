"""``pause`` and ``resume``."""

from collections.abc import Mapping

from runtime.cgroup.group import Cgroup
from runtime.cli import group as cgroups
from runtime.cli.arguments import only
from runtime.cli.context import Context
from runtime.cli.folder import condition
from runtime.errors import StateError

Values = Mapping[str, list[str]]


def pause(context: Context, values: Values, rest: list[str]) -> int:
    """Stop all processes of the container where they are."""
    _group(context, rest).freeze()
    return 0


def resume(context: Context, values: Values, rest: list[str]) -> int:
    """Let the processes of the container go on."""
    group = _group(context, rest)
    if not group.is_frozen():
        raise StateError(f"container {only(rest)} is not paused")
    group.thaw()
    return 0


def _group(context: Context, rest: list[str]) -> Cgroup:
    folder = context.folder(only(rest))
    status = folder.read()
    word = condition(folder, status)
    if word == "stopped":
        raise StateError(f"container not running: {folder.id}")
    group = cgroups.open_group(status)
    if group is None:
        raise StateError(f"container {folder.id} has no cgroup, by which alone it can be paused")
    return group
