"""The v1 cpuset controller.

A new v1 cpuset is empty and nothing can join it, so every level is first filled from above. Made
on demand only: each cpuset costs the kernel time proportional to all of them.

Source: Documentation/admin-guide/cgroup-v1/cpusets.rst.
"""

import os

from runtime.cgroup import files
from runtime.cgroup.controller import Controller, write_setting
from runtime.cgroup.setting import Setting, same_list
from runtime.spec import Cpu, Resources

_FILES = ("cpuset.cpus", "cpuset.mems")


def settings(resources: Resources) -> tuple[Setting, ...]:
    """Return cpus and memory nodes; an empty value stands for those of the parent."""
    cpu = resources.cpu or Cpu()
    return (
        _members("cpu.cpus", "cpuset.cpus", cpu.cpus),
        _members("cpu.mems", "cpuset.mems", cpu.mems),
    )


def _members(field: str, file: str, members: str | None) -> Setting:
    return Setting(
        field=field,
        file=file,
        value=members or "",
        default="",
        same=lambda expected, actual: not expected or same_list(expected, actual),
        hint="a list like 0-2,7 of what the host has online",
    )


def prepare(folder: str) -> None:
    """Fill a new cpuset from its parent, so that processes can join it."""
    for file in _FILES:
        path = f"{folder}/{file}"
        if not files.read(path):
            files.write(path, _parents_value(folder, file))


def apply(folder: str, wanted: tuple[Setting, ...], *, fresh: bool) -> list[Setting]:
    """Write the lists; those not asked for go back to the parent's."""
    for setting in wanted:
        if setting.value:
            write_setting(folder, setting, fresh=fresh)
        elif not fresh:
            inherited = _parents_value(folder, setting.file)
            path = f"{folder}/{setting.file}"
            if not same_list(inherited, files.read(path)):
                files.write(path, inherited)
    return []


def _parents_value(folder: str, file: str) -> str:
    return files.read(f"{os.path.dirname(folder)}/{file}")


CPUSET = Controller(
    name="cpuset",
    settings=settings,
    wanted=lambda resources: bool(resources.cpu and (resources.cpu.cpus or resources.cpu.mems)),
    apply=apply,
    prepare=prepare,
)
