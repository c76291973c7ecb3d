"""How a running container's mounts differ from those it was made with.

Mountinfo is all that is compared, so it costs one file a container. A mount that is gone takes
what was mounted below along: that is one difference.
"""

import functools
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from runtime.cgroup.hierarchy import Hierarchy
from runtime.container.config import ContainerConfig
from runtime.container.inside import Difference
from runtime.kernel.procfs import MountInfo, read_mountinfo
from runtime.rootfs.plan import CGROUP_FOLDER, cgroup_view
from runtime.rootfs.resolve import open_in_root

_RESTRICTIONS = frozenset({"ro", "nosuid", "nodev", "noexec"})
_OF_THE_KERNEL = ("/proc/", "/sys/")


class _Wanted(NamedTuple):
    """What should be mounted at one place."""

    kind: str = "mount"
    """``mount``, ``mask`` or ``read-only mount``: the last two are only on what the kernel has."""
    options: Collection[str] = ()


def compare_mounts(config: ContainerConfig, pid: int, hierarchy: Hierarchy) -> Iterator[Difference]:
    """Yield mounts of process *pid* that are gone, lost a restriction or were made read-only."""
    infos = read_mountinfo(pid) or ()
    found = {info.mount_point: {*info.options} for info in infos}
    if "/" not in found:
        return  # it has ended, or changed its root and sees a part of them only
    gone: list[str] = []
    for target, wanted in sorted(_wanted(config, infos, hierarchy).items()):
        if gone and any(target.startswith(f"{above}/") for above in gone):
            continue
        if target not in found:
            if _is_gone(pid, target, wanted, found):
                gone.append(target)
                yield _missing(target, wanted)
        elif wanted.kind != "mask":  # there is nothing behind one to write to
            yield from _compare(target, wanted, found[target])


def _wanted(
    config: ContainerConfig, infos: Iterable[MountInfo], hierarchy: Hierarchy
) -> dict[str, _Wanted]:
    wanted = {"/": _Wanted(options=("ro",) if config.spec.root.readonly else ())}
    for mount in config.spec.mounts:
        wanted[mount.destination.rstrip("/") or "/"] = _Wanted(options=mount.options)
    for mount in config.spec.mounts:
        names = tuple(_always_shown(hierarchy)) if mount.type == "cgroup" else ()
        if names:
            target, below = mount.destination.rstrip("/"), _Wanted(options=mount.options)
            wanted[target] = _Wanted(options=CGROUP_FOLDER)
            wanted.update((f"{target}/{name}", below) for name in names)
            # Others came with the limits of its start, which may have been other ones.
            shown = (i.mount_point for i in infos if i.fstype in ("cgroup", "cgroup2"))
            wanted.update((p, below) for p in shown if p.startswith(f"{target}/"))
    linux = config.spec.linux
    wanted.update((path, _Wanted("mask")) for path in linux.masked_paths)
    read_only = _Wanted("read-only mount", ("ro",))
    wanted.update((path, read_only) for path in linux.readonly_paths)
    return wanted


def _always_shown(hierarchy: Hierarchy) -> Iterator[str]:
    """Yield what is below /sys/fs/cgroup in every container; nothing where that is one group."""
    folders = {hierarchy.places[name].folder for name in hierarchy.always}
    if hierarchy.unified is not None and hierarchy.uses_unified:
        folders.add(hierarchy.unified)
    joined = (
        f"{folder}/group/{'cgroup.procs' if folder == hierarchy.unified else 'tasks'}"
        for folder in folders
    )
    return (name for name, _ in cgroup_view(tuple(joined)) if name)


def _missing(target: str, wanted: _Wanted) -> Difference:
    if wanted.kind == "mount":
        cause = f"{target} was unmounted inside the container"
    else:
        cause = f"the {wanted.kind} on {target} is missing inside the container"
    return Difference(f"mounts[{target}]", cause, "mounted", "missing", live=False)


def _compare(target: str, wanted: _Wanted, actual: Collection[str]) -> Iterator[Difference]:
    restrictions = _RESTRICTIONS.intersection(wanted.options)
    lost = sorted(restrictions.difference(actual))
    closed = "ro" in actual and "ro" not in restrictions and target != "/"
    if lost or closed:
        now = f"without {', '.join(lost)}" if lost else "read-only"
        yield Difference(
            f"mounts[{target}]",
            f"{target} was remounted {now} inside the container",
            ",".join(sorted(restrictions)) or "rw",
            ",".join(sorted(_RESTRICTIONS.intersection(actual))) or "rw",
            live=False,
        )


@functools.cache
def _has_kernel(path: str) -> bool:
    """Tell whether the kernel shows this file to us, and so to containers; asked but once."""
    return os.path.lexists(path)


def _is_gone(pid: int, target: str, wanted: _Wanted, found: Mapping[str, object]) -> bool:
    """Tell whether a mount that is not at *target* is really gone.

    A link in the image may have led it elsewhere; and what this kernel does not have is neither
    masked nor made read-only.
    """
    if wanted.kind != "mount" and target.startswith(_OF_THE_KERNEL) and not _has_kernel(target):
        return False
    try:
        root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False  # it ended just now
    try:
        place = open_in_root(root, target)
        try:
            # As seen from the container's root, which is the root of its mount namespace.
            return os.readlink(f"/proc/self/fd/{place}") not in found
        finally:
            os.close(place)
    except OSError:
        return wanted.kind == "mount"
    finally:
        os.close(root)
