"""The mounts of a spec as operations of a launch program. Pure.

What comes from the host (binds) is cloned while the host's files are in view; everything is then
put in place after pivot_root, when nothing a hostile image contains can lead out of its root.
"""

import os
from collections.abc import Sequence

from runtime.errors import ContainerError
from runtime.kernel.mount import MOUNT_ATTR_RDONLY, MS_BIND, MS_PRIVATE, MS_RDONLY, MS_REMOUNT
from runtime.kernel.program import Operation
from runtime.record import dataclass, field, replace
from runtime.rootfs.idmap import parse_idmap
from runtime.rootfs.options import MountOptions, attributes, cleared_attributes, parse_options
from runtime.spec import IdMapping, LinuxDevice, Mount

DEVICE_TYPES = {"c": 0o020000, "u": 0o020000, "b": 0o060000, "p": 0o010000}  # S_IF*, inode(7)

_BASIC_DEVICES = (
    LinuxDevice("/dev/null", "c", 1, 3),
    LinuxDevice("/dev/zero", "c", 1, 5),
    LinuxDevice("/dev/full", "c", 1, 7),
    LinuxDevice("/dev/random", "c", 1, 8),
    LinuxDevice("/dev/urandom", "c", 1, 9),
    LinuxDevice("/dev/tty", "c", 5, 0),
)
_LINKS = (
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("/proc/kcore", "/dev/core"),
    ("pts/ptmx", "/dev/ptmx"),
)


_WITHOUT_CONTEXT = ("proc", "sysfs", "mqueue")
"""File systems whose files SELinux labels by itself, mount(8)."""


@dataclass(slots=True)
class MountPlan:
    """Operations of each phase, in order."""

    host: list[Operation] = field(default_factory=list)
    """While the host is in view: clones of what will be bound."""
    fresh: list[Operation] = field(default_factory=list)
    """In the new namespaces, still before the pivot: what a user namespace gets only there."""
    inside: list[Operation] = field(default_factory=list)
    """After the pivot."""
    last: list[Operation] = field(default_factory=list)
    """When every mount, folder and device is in place: making read-only."""
    slots: int = 0

    def new_slot(self) -> int:
        """Return a number under which a clone can be kept."""
        self.slots += 1
        return self.slots - 1


def plan_mounts(
    mounts: Sequence[Mount],
    *,
    devices: Sequence[LinuxDevice] = (),
    cgroups: Sequence[tuple[str, str]] = (),
    userns: bool = False,
    confined: bool = False,
    own_network: bool = True,
    uids: Sequence[IdMapping] = (),
    gids: Sequence[IdMapping] = (),
    label: str | None = None,
    top_only: bool = False,
) -> MountPlan:
    """Return how *mounts* are made, in their order, and what /dev is filled with.

    A fresh /dev (a mount there that is no bind) gets the basic devices and links the
    specification asks for; *devices* are made in any case. A mount of type ``cgroup`` shows
    *cgroups*, see `cgroup_view`. In a user namespace (*userns*) no device can be made, so those of
    the host are bound, and without *own_network* no sysfs, so the host's is. *uids* and *gids* are
    its mappings, for binds that ask for ``idmap`` and have none of their own. *label* is the
    SELinux context of what is mounted anew. With *top_only* words as ``ro`` hold for the mount they
    are of, as specified, and those as ``rro`` below it as well; without, all do. *confined* says
    that the host is a user namespace already, so that other devices are bound too.

    Raises:
        ContainerError: a mount that cannot be meant.
    """
    plan = MountPlan()
    userns = userns or confined
    fresh_dev = False
    for mount in mounts:
        if not mount.destination.startswith("/"):  # deprecated, and means the root
            mount = replace(mount, destination=f"/{mount.destination}")
        options = parse_options(mount.options)
        if options.remount:
            _remount(plan, mount, options)
        elif mount.type == "cgroup":
            _show_cgroups(plan, mount.destination, options, cgroups, label)
        elif options.bind or mount.type in ("bind", "rbind"):
            recursive = options.recursive or mount.type == "rbind"
            if options.idmap and not (mount.uid_mappings or mount.gid_mappings):
                maps = (tuple(uids), tuple(gids))
                if options.idmap_text:
                    maps = parse_idmap(options.idmap_text, uids, gids)
                mount = replace(mount, uid_mappings=maps[0], gid_mappings=maps[1])
            _bind(plan, mount, options, recursive=recursive, top_only=top_only)
        elif userns and mount.type == "sysfs" and not own_network:
            _bind(plan, Mount(mount.destination, source="/sys"), options, recursive=True)
        elif userns and mount.type in ("proc", "sysfs"):
            _mount_early(plan, mount, options)
        else:
            _mount(plan, mount, options, label)
            fresh_dev |= os.path.normpath(mount.destination) == "/dev"
    for device in _BASIC_DEVICES if fresh_dev else ():
        if userns:
            host = Mount(device.path, source=device.path)
            _bind(plan, host, MountOptions(), recursive=False)
        else:
            plan.inside.append(_node(device))
    for device in devices:
        _device(plan, device, userns=userns, confined=confined)
    if fresh_dev:
        plan.inside += [("symlink", text, path) for text, path in _LINKS]
    return plan


def cgroup_view(
    join_files: Sequence[str], *, mount_point: str = "/sys/fs/cgroup"
) -> tuple[tuple[str, str], ...]:
    """Return (name below /sys/fs/cgroup, folder on the host) of a container's own cgroups.

    *join_files* are ``tasks`` (version 1) or ``cgroup.procs`` (version 2) files. Version 2 on its
    own is the whole of /sys/fs/cgroup: its name is empty. Groups mounted elsewhere are not shown.
    """
    shown = [file for file in join_files if file.startswith(f"{mount_point}/")]
    if len(shown) == 1 and shown[0].endswith("/cgroup.procs"):
        return (("", os.path.dirname(shown[0])),)
    prefix = len(mount_point) + 1
    return tuple((file[prefix:].split("/")[0], os.path.dirname(file)) for file in shown)


def _mount(plan: MountPlan, mount: Mount, options: MountOptions, label: str | None) -> None:
    if not mount.type:
        raise ContainerError(f"mount on {mount.destination} has no type")
    flags = options.flags
    if mount.type == "tmpfs" and flags & MS_RDONLY:
        # Later mounts may need folders made in it.
        flags &= ~MS_RDONLY
        plan.last.append(("mount_attributes", mount.destination, MOUNT_ATTR_RDONLY))
    words = options.data
    if label and mount.type not in _WITHOUT_CONTEXT:
        words = (*words, f'context="{label}"')
    data = ",".join(words) or None
    source = mount.source or mount.type
    more: tuple[bool, ...] = ()
    if options.copy_up:
        if mount.type != "tmpfs":
            raise ContainerError(f"mount on {mount.destination}: tmpcopyup is for tmpfs only")
        more = (True,)
    plan.inside.append(("mount", source, mount.destination, mount.type, flags, data, *more))
    if options.propagation not in (0, MS_PRIVATE):
        raise ContainerError(f"mount on {mount.destination}: propagation is for binds only")


def _remount(plan: MountPlan, mount: Mount, options: MountOptions) -> None:
    """Change what an earlier mount has put there."""
    flags = options.flags | MS_REMOUNT | (MS_BIND if options.bind else 0)
    kind = mount.type or "none"
    data = ",".join(options.data) or None
    plan.inside.append(("mount", mount.source or kind, mount.destination, kind, flags, data))


def _mount_early(plan: MountPlan, mount: Mount, options: MountOptions) -> None:
    assert mount.type is not None
    slot = plan.new_slot()
    added, _ = attributes(options.flags)
    source = mount.source or mount.type
    plan.fresh.append(("filesystem", slot, source, mount.type, added, options.data))
    plan.inside.append(("place", slot, mount.destination, mount.type))


def _bind(
    plan: MountPlan,
    mount: Mount,
    options: MountOptions,
    *,
    recursive: bool,
    top_only: bool = False,
) -> None:
    target, source = mount.destination, mount.source
    if not source or not source.startswith("/"):
        raise ContainerError(f"source of the bind on {target} is not absolute: {source}")
    if options.copy_up:
        raise ContainerError(f"bind on {target}: tmpcopyup is for tmpfs only")
    if options.data:
        raise ContainerError(f"bind on {target} has no option {options.data[0]}")
    slot = plan.new_slot()
    added, cleared = attributes(options.flags)
    propagation = options.propagation or MS_PRIVATE
    plan.host.append(("tree", slot, source, recursive))
    if options.recursive_clear:
        taken = cleared_attributes(options.recursive_clear)
        plan.host.append(("attributes", slot, 0, taken, propagation, True))
    if top_only and recursive and options.flags != options.recursive_flags:
        below, of_times = attributes(options.recursive_flags)
        plan.host.append(("attributes", slot, below, of_times, propagation, True))
        plan.host.append(("attributes", slot, added, cleared, propagation, False))
    else:
        plan.host.append(("attributes", slot, added, cleared, propagation, recursive))
    if mount.uid_mappings or mount.gid_mappings:
        uids = tuple(mapping.triple for mapping in mount.uid_mappings)
        gids = tuple(mapping.triple for mapping in mount.gid_mappings)
        plan.host.append(("idmap", slot, uids, gids, options.idmap_recursive))
    elif options.idmap:
        raise ContainerError(f"bind on {target}: idmap needs uidMappings and gidMappings")
    plan.inside.append(("attach", slot, target))


CGROUP_FOLDER = ("nosuid", "noexec", "nodev", "mode=755", "ro")
"""Options of the tmpfs that holds a folder per hierarchy, whatever those are mounted with."""


def _show_cgroups(
    plan: MountPlan,
    target: str,
    options: MountOptions,
    cgroups: Sequence[tuple[str, str]],
    label: str | None,
) -> None:
    """Show version 2 alone as one tree, else a folder per hierarchy, as on a host."""
    if len(cgroups) == 1 and not cgroups[0][0]:
        _bind(plan, Mount(target, source=cgroups[0][1]), options, recursive=False)
        return
    tmpfs = Mount(target, "tmpfs", "tmpfs", CGROUP_FOLDER)
    _mount(plan, tmpfs, parse_options(tmpfs.options), label)
    for name, folder in cgroups:
        _bind(plan, Mount(f"{target}/{name}", source=folder), options, recursive=False)
        for controller in name.split(",") if "," in name else ():
            plan.inside.append(("symlink", name, f"{target}/{controller}"))


def _device(plan: MountPlan, device: LinuxDevice, *, userns: bool, confined: bool) -> None:
    node = _node(device)
    if not userns:
        plan.inside.append(node)
        return
    slot = plan.new_slot()
    if confined:
        plan.host.append(("host_device", slot, *node[1:5]))
    else:
        plan.host.append(("device", slot, *node[2:]))
    plan.inside.append(("attach", slot, device.path))


def _node(device: LinuxDevice) -> Operation:
    if device.type not in DEVICE_TYPES:
        raise ContainerError(f"device {device.path} has unknown type {device.type}")
    permissions = 0o666 if device.file_mode is None else device.file_mode & 0o7777
    mode = DEVICE_TYPES[device.type] | permissions
    owner = (device.uid or 0, device.gid or 0)
    return ("node", device.path, mode, device.major, device.minor, *owner)
