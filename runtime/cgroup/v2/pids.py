"""The pids controller: how many tasks there may be.

Source: Documentation/admin-guide/cgroup-v2.rst, PID.
"""

from runtime.cgroup.controller import Controller, number
from runtime.cgroup.limits import limit_or_none
from runtime.cgroup.setting import Setting
from runtime.spec import Resources


def settings(resources: Resources) -> tuple[Setting, ...]:
    """Return the one limit."""
    limit = limit_or_none(resources.pids.limit) if resources.pids else None
    value = "max" if limit is None else str(limit)
    return (Setting(field="pids.limit", file="pids.max", value=value, default="max"),)


def stats(folder: str) -> dict[str, int | None]:
    """Return tasks (threads, not only processes) and their limit."""
    return {"pids": number(folder, "pids.current"), "pids_limit": number(folder, "pids.max")}


PIDS = Controller(
    name="pids",
    settings=settings,
    wanted=lambda resources: resources.pids is not None,
    stats=stats,
)
