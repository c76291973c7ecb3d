"""Where this host keeps which controller: all on v1, all on v2, or some here and some there."""

from __future__ import annotations

import os
from collections.abc import Set

from runtime.cgroup import files
from runtime.errors import UnsupportedHostError
from runtime.kernel.procfs import MountInfo, is_confined, parse_mountinfo
from runtime.record import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

MOUNTINFO = "/proc/self/mountinfo"

# Of the words in the super options of a v1 mount, those that are controllers.
_V1_CONTROLLERS = frozenset(
    (
        *("cpuset", "cpu", "cpuacct", "blkio", "memory", "devices", "freezer", "net_cls"),
        *("perf_event", "net_prio", "hugetlb", "pids", "rdma", "misc"),
    )
)

# v1 controllers every group of ours has. The freezer is what stops a group that forks while it
# is being killed; cpuacct is the only source of CPU time. cpuset, devices and blkio are made on
# demand: a cpuset costs time proportional to all cpusets of the host.
_V1_ALWAYS = ("freezer", "memory", "pids", "cpu", "cpuacct")
_V2_ALWAYS = ("cpu", "memory", "pids", "io")

# On a host whose v2 hierarchy holds none of these (hybrid), our groups leave it alone: joining a
# v2 group costs 4 to 13 ms after idle where a v1 `tasks` file costs 0.1.
_V2_USED = frozenset((*_V2_ALWAYS, "cpuset"))


@dataclass(frozen=True, slots=True)
class Place:
    """Where one controller lives."""

    version: Literal[1, 2]
    folder: str
    """Its mount point; groups are made below it."""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """The cgroup mounts of one host. Made by ``detect``; a plain value afterwards."""

    places: dict[str, Place]
    """Controller -> place. CPU accounting and freezing are parts of v2 itself, no controllers;
    so are device programs, which stand in for a v1 controller that is not there."""
    unified: str | None
    """Mount point of cgroup2, whether or not it holds controllers."""
    named: tuple[str, ...] = ()
    """Mount points of v1 hierarchies without controllers (systemd's)."""
    confined: bool = False
    """Whether it is that of root of a user namespace: only what is delegated to it, if anything,
    and no rules about devices, of which it can make and get none."""
    whole: bool = False
    """Every group has every controller and is in the named hierarchies, as other engines' groups:
    who has it made looks for its files, and systemd for its processes."""

    @classmethod
    def detect(cls, mountinfo: str = MOUNTINFO) -> Hierarchy:
        """Read *mountinfo*, and ``cgroup.controllers`` of the v2 mount it names.

        In a user namespace only what is delegated to its root counts, which may be nothing.

        Raises:
            UnsupportedHostError: no cgroup file system is mounted.
        """
        confined = is_confined()
        with open(mountinfo, "rb") as stream:  # as text, other bytes would end a line, too
            mounts = parse_mountinfo(os.fsdecode(stream.read()))
        places: dict[str, Place] = {}
        named: list[str] = []
        unified = None
        # The first writable mount of a hierarchy wins: a second is a bind mount of somebody's.
        for mount in filter(_usable, mounts):
            if confined and not os.access(mount.mount_point, os.W_OK):
                continue
            if mount.fstype == "cgroup2":
                unified = unified or mount.mount_point
                continue
            controllers = _V1_CONTROLLERS.intersection(mount.super_options)
            for controller in controllers:
                places.setdefault(controller, Place(1, mount.mount_point))
            if not controllers:
                named.append(mount.mount_point)
        if unified is not None:
            for controller in files.read(f"{unified}/cgroup.controllers").split():
                places.setdefault(controller, Place(2, unified))
            if not confined:
                places.setdefault("devices", Place(2, unified))
        if not places and unified is None and not confined:
            raise UnsupportedHostError(
                f"no cgroup file system is mounted (read {mountinfo}); "
                "mount cgroup2 on /sys/fs/cgroup"
            )
        return cls(places, unified, tuple(named), confined)

    @property
    def is_empty(self) -> bool:
        """Tell whether no group can be made at all: nothing is delegated to this user."""
        return not self.places and self.unified is None and not self.named

    @property
    def mode(self) -> Literal["v1", "v2", "hybrid"]:
        """How this host is set up, in systemd's words."""
        if self.unified is None:
            return "v1"
        has_v1 = any(place.version == 1 for place in self.places.values()) or self.named
        return "hybrid" if has_v1 else "v2"

    @property
    def uses_unified(self) -> bool:
        """Tell whether every group of ours has a part in the v2 hierarchy."""
        if self.unified is None:
            return False
        return "freezer" not in self.places or not _V2_USED.isdisjoint(self.on(2))

    def on(self, version: int) -> frozenset[str]:
        """Return the controllers that live on *version*."""
        return frozenset(name for name, place in self.places.items() if place.version == version)

    @property
    def always(self) -> Set[str]:
        """The controllers every group has on this host."""
        if self.whole:
            # Rules of devices, for those who have some, begin with what the group above may do.
            return self.places.keys() - {"devices"}
        v1 = self.on(1).intersection(_V1_ALWAYS)
        v2 = self.on(2).intersection(_V2_ALWAYS)
        return v1 | v2

    def folders(self) -> tuple[str, ...]:
        """Return every mount point once; controllers mounted together share one."""
        mounted = [place.folder for place in self.places.values()]
        if self.unified is not None:
            mounted.append(self.unified)
        return tuple(dict.fromkeys((*mounted, *self.named)))


def _usable(mount: MountInfo) -> bool:
    return mount.fstype in ("cgroup", "cgroup2") and "ro" not in mount.options


def parents(name: str) -> tuple[str, ...]:
    """Return the groups above *name*, outermost first: ``a/b/c`` -> ``a``, ``a/b``."""
    words = name.split("/")
    return tuple("/".join(words[:count]) for count in range(1, len(words)))


def walk(folder: str) -> tuple[str, ...]:
    """Return *folder* and all groups below it, parents first; empty if it is not there."""
    found = []
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        try:
            with os.scandir(current) as entries:
                waiting.extend(e.path for e in entries if e.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            continue
        found.append(current)
    return tuple(found)
