"""Making a group have limits, comparing it with them, and reading what it has used.

Apart from `group`, as much of what is done to groups (kill, freeze, look) needs none of it.
"""

import os
from errno import ESRCH

from runtime.cgroup import files, membership
from runtime.cgroup.group import Cgroup
from runtime.cgroup.layout import Layout, Part, Work
from runtime.cgroup.setting import Deviation
from runtime.cgroup.stats import Stats
from runtime.cgroup.v1.controllers import CONTROLLERS as V1
from runtime.cgroup.v2.controllers import CONTROLLERS as V2
from runtime.errors import ConflictError, KernelError, StateError


def converge(group: Cgroup, layout: Layout, *, claim: bool = False) -> tuple[str, ...]:
    """Make the parts of *layout* that are missing, and set all its limits; see `Cgroup.create`."""
    warnings = list(layout.warnings)
    made: list[str] = []
    found_old = False
    for part in layout.parts:
        folder = f"{part.mount}/{group.name}"
        if part.needed:
            fresh = _ensure(group, part)
            if claim and not fresh and not made:
                raise ConflictError(f"cgroup {group.name} exists already: it is another's")
        elif os.path.isdir(folder):
            fresh = False
        else:
            continue
        if fresh:
            made.append(folder)
        found_old = found_old or not fresh
        for work in part.works:
            if part.version == 1 or work.needed or _is_enabled(folder, work):
                warnings += _apply(folder, work, fresh=fresh)
    if made and found_old:
        _move_into(group, made)
    return tuple(warnings)


def deviations(group: Cgroup, layout: Layout) -> tuple[Deviation, ...]:
    """Compare the kernel's files with *layout*; see `Cgroup.deviations`."""
    found: list[Deviation] = []
    for part in layout.parts:
        if part.needed:
            found += _part_deviations(part, f"{part.mount}/{group.name}")
    return tuple(found)


def stats(group: Cgroup) -> Stats:
    """Return what the group has used; all None if there is no group."""
    values: dict[str, int | None] = {}
    for name, place in group.hierarchy.places.items():
        if place.version == 1 and name in V1:
            values |= V1[name].stats(f"{place.folder}/{group.name}")
    unified = group.birth_folder()
    if unified is not None:
        for controller in V2.values():
            found = controller.stats(unified)
            values |= {key: value for key, value in found.items() if value is not None}
    return Stats(**values)


def _ensure(group: Cgroup, part: Part) -> bool:
    if part.version == 1:
        prepare = next((w.controller.prepare for w in part.works if w.controller.prepare), None)
        return membership.make(part.mount, group.name, prepare=prepare)
    works = (work for work in part.works if work.needed and not work.controller.built_in)
    needed = {work.controller.name for work in works}
    return membership.make_delegated(part.mount, group.name, frozenset(needed - {"cgroup"}))


def _move_into(group: Cgroup, folders: list[str]) -> None:
    """Move all members into parts that were added to a living group.

    Raises:
        StateError: they fork faster than they can be moved.
    """
    for folder in folders:
        # Children of a member that was moved are born in the right place.
        for _ in range(100):
            missing = set(group.pids()).difference(membership.members(folder))
            if not missing:
                break
            for pid in missing:
                try:
                    files.write(f"{folder}/cgroup.procs", str(pid))
                except KernelError as error:
                    if error.errno != ESRCH:
                        raise
        else:
            raise StateError(f"cannot move the processes of cgroup {group.name} into {folder}")


def _part_deviations(part: Part, folder: str) -> list[Deviation]:
    if not os.path.isdir(folder):
        return [Deviation("group", folder, "a group", None)]
    found = []
    for work in filter(lambda work: work.needed, part.works):
        for setting in work.settings:
            actual = work.controller.read(folder, setting)
            if actual is None and setting.may_be_absent:
                continue
            if actual is None or not setting.same(setting.value, actual):
                path = f"{folder}/{setting.file}"
                found.append(Deviation(setting.field, path, setting.value.strip(), actual))
    return found


def _is_enabled(folder: str, work: Work) -> bool:
    """Tell whether a v2 group has a controller that it need not have."""
    if work.controller.built_in:
        return True
    return work.controller.name in files.read(f"{folder}/cgroup.controllers").split()


def _apply(folder: str, work: Work, *, fresh: bool) -> list[str]:
    """Write the settings of one controller; return words for those the kernel has no file for."""
    missing = work.controller.apply(folder, work.settings, fresh=fresh)
    fields = {setting.field for setting in work.settings if setting not in missing}
    unmet = [s for s in missing if not s.is_default and s.field not in fields]
    return list(dict.fromkeys(f"{s.field}: {s.why_absent}" for s in unmet))
