"""Out of the caller's control groups, and their limits, into a leaf of our own.

A supervisor started from somebody's session must neither die with that session nor count as its
memory. Hierarchies in which the caller sits at the root are left alone. Plain file writes: the
keeper imports as little as it can.
"""

import os
from contextlib import suppress

from runtime.kernel.procfs import read_mountinfo


def enter(group: str, *, proc: str = "/proc") -> None:
    """Move this process into ``<group>/supervisor``.

    Where the leaf cannot be had (a cpuset without processors), the hierarchy's root has to do;
    where that is forbidden too, the process stays.
    """
    for mount_point in _crowded(proc):
        folder = os.path.join(mount_point, group, "supervisor")
        try:
            os.makedirs(folder, exist_ok=True)
            _join(folder)
        except OSError:
            with suppress(OSError):
                _join(mount_point)


def leave(group: str, *, proc: str = "/proc") -> None:
    """Move to the root of each hierarchy and remove the leaf, and *group* itself where empty."""
    for mount_point in _mount_points(proc).values():
        parent = os.path.join(mount_point, group)
        folder = os.path.join(parent, "supervisor")
        if os.path.isdir(folder):
            # Without this, version 1 keeps the dead group for as long as its pages are cached.
            with suppress(OSError):
                _write(os.path.join(folder, "memory.force_empty"))
            with suppress(OSError):
                _join(mount_point)
                os.rmdir(folder)
        with suppress(OSError):
            os.rmdir(parent)


def _join(folder: str) -> None:
    # A thread that moves itself by version 1's `tasks` spares the kernel a grace period.
    try:
        _write(os.path.join(folder, "tasks"))
    except FileNotFoundError:
        _write(os.path.join(folder, "cgroup.procs"))


def _write(path: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, b"0")
    finally:
        os.close(fd)


def _crowded(proc: str) -> list[str]:
    """Return the mount points of the hierarchies in which this process is not at the root."""
    mount_points = _mount_points(proc)
    found = []
    with open(f"{proc}/self/cgroup", encoding="utf-8") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            if path != "/" and controllers in mount_points:
                found.append(mount_points[controllers])
    return found


def _mount_points(proc: str) -> dict[str, str]:
    """Return where each hierarchy is mounted, by its controllers as /proc/self/cgroup has them."""
    hierarchies = {}
    with open(f"{proc}/self/cgroup", encoding="utf-8") as file:
        for line in file:
            controllers = line.split(":", 2)[1]
            hierarchies[frozenset(controllers.split(","))] = controllers
    found: dict[str, str] = {}
    # The first writable one, as for `Hierarchy`: a second is a bind mount of somebody's.
    for mount in read_mountinfo(proc=proc) or ():
        if "ro" in (*mount.options, *mount.super_options):
            continue
        if mount.fstype == "cgroup2":
            found.setdefault("", mount.mount_point)
        elif mount.fstype == "cgroup":
            for wanted, controllers in hierarchies.items():
                if wanted <= frozenset(mount.super_options):
                    found.setdefault(controllers, mount.mount_point)
    return found
