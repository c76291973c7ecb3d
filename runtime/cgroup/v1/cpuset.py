"""The v1 cpuset controller.

A new v1 cpuset is empty and nothing can join it, so every level is first filled from above. Made
on demand only: each cpuset costs the kernel time proportional to all of them.

Source: Documentation/admin-guide/cgroup-v1/cpusets.rst.
"""

import os

from runtime.cgroup import files
from runtime.cgroup.controller import Controller, write_setting
from runtime.cgroup.setting import Setting, same_list
from runtime.cgroup.v2.cpuset import is_wanted, settings

_FILES = ("cpuset.cpus", "cpuset.mems")


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
    wanted=is_wanted,
    apply=apply,
    prepare=prepare,
)
