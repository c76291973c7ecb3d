"""The v2 cpuset controller. Switched on on demand.

An empty list means the parent's, so unlike v1 nothing has to be filled in. But the kernel (seen
with 6.1) does not empty the list of a group with members; then the parent's list is written out.

Source: Documentation/admin-guide/cgroup-v2.rst, Cpuset.
"""

import os
from errno import ENOSPC

from runtime.cgroup import files
from runtime.cgroup.controller import Controller, write_setting
from runtime.cgroup.setting import Setting, same_list
from runtime.errors import KernelError
from runtime.spec import Cpu, Resources


def settings(resources: Resources) -> tuple[Setting, ...]:
    """Return cpus and memory nodes; an empty value stands for those of the parent."""
    cpu = resources.cpu or Cpu()
    return (
        _members("cpu.cpus", "cpuset.cpus", cpu.cpus),
        _members("cpu.mems", "cpuset.mems", cpu.mems),
    )


def is_wanted(resources: Resources) -> bool:
    """Tell whether anything is asked for."""
    return bool(resources.cpu and (resources.cpu.cpus or resources.cpu.mems))


def _members(field: str, file: str, members: str | None) -> Setting:
    return Setting(
        field=field,
        file=file,
        value=members or "",
        default="",
        same=lambda expected, actual: not expected or same_list(expected, actual),
        hint="a list like 0-2,7 of what the host has online",
    )


def apply(folder: str, wanted: tuple[Setting, ...], *, fresh: bool) -> list[Setting]:
    """Write the lists; those not asked for go back to the parent's."""
    for setting in wanted:
        if setting.value:
            write_setting(folder, setting, fresh=fresh)
        elif not fresh and files.read(f"{folder}/{setting.file}"):
            _inherit(folder, setting.file)
    return []


def _inherit(folder: str, file: str) -> None:
    try:
        # An empty write is no write at all; a newline empties the list.
        files.write(f"{folder}/{file}", "\n")
    except KernelError as error:
        if error.errno != ENOSPC:
            raise
        files.write(f"{folder}/{file}", files.read(f"{os.path.dirname(folder)}/{file}.effective"))


CPUSET = Controller(
    name="cpuset",
    settings=settings,
    wanted=is_wanted,
    apply=apply,
)
