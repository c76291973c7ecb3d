"""An OCI spec, compiled to the launch program that makes it real. Pure.

The order is what makes it right:

1. in the host's view: join the cgroups, then namespaces, then clone what will be bound (with a
   user or time namespace of its own the other way round: to clone may take helper processes);
2. mount the root and pivot into it, at once: from here on no path can lead to the host;
3. in the container's view: mounts, devices, terminal, sysctls, masks, read-only;
4. the process (`runtime.container.process_operations`).

`runtime.kernel.program` lists the operations.
"""

from collections.abc import Sequence

from runtime.container.process_operations import (
    labels_of,
    process_operations,
    rlimit_operations,
)
from runtime.container.stages import Stages
from runtime.errors import ContainerError, UnsupportedHostError
from runtime.kernel import mount as kernel
from runtime.kernel.lsm import SELINUX
from runtime.kernel.namespaces import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    NAMESPACE_FLAGS,
)
from runtime.kernel.program import Operation, Program
from runtime.rootfs.plan import cgroup_view, plan_mounts
from runtime.spec import Personality, Process, Seccomp, Spec

_ALL_NAMESPACES = (
    CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP
)
_ROOT_PROPAGATION = {
    "private": kernel.MS_PRIVATE,
    "slave": kernel.MS_SLAVE,
    "shared": kernel.MS_SHARED,
    "unbindable": kernel.MS_UNBINDABLE,
}
# sysctls that belong to a namespace, by prefix: the others would change the host.
_SYSCTL_NAMESPACE = (
    ("net/", "network"),
    ("fs/mqueue/", "ipc"),
    ("kernel/msg", "ipc"),
    ("kernel/sem", "ipc"),
    ("kernel/shm", "ipc"),
    ("kernel/domainname", "uts"),
)


def compile_program(
    spec: Spec,
    *,
    layers: Sequence[str] = (),
    upper: str | None = None,
    work: str | None = None,
    volatile: bool = False,
    netns: str | None = None,
    among: str | None = None,
    cgroup_join: Sequence[str] = (),
    init: bool = False,
    environment: str | None = None,
    keyring: str | None = None,
    stages: Stages | None = None,
    confined: bool = False,
) -> Program:
    """Return the program that starts *spec*'s process in its container.

    The root is an overlay of *layers* (absolute, lowest first) under *upper* and *work*, or
    without layers the folder ``spec.root.path``. *netns* is a pinned network namespace and wins
    over the one in the spec; so does that of the container with the run folder *among*, of which it
    is to share the pid namespace. *cgroup_join* are the ``tasks`` and ``cgroup.procs`` files of the
    container's cgroup. *environment* is a file with variables beyond the spec's, which are in no
    program because programs are stored. *keyring* is the name of a new session keyring. *stages*
    are those of a container made for another engine. *confined* says that it is started in a user
    namespace: some things come in other ways there.

    Raises:
        ContainerError: the spec contradicts itself or asks for what would change the host.
        UnsupportedHostError: it asks for something not supported here.
    """
    own = _namespaces(spec, netns, among)
    if own.is_late and stages is None:
        # They need somebody to set them up in between.
        kind = "user" if "user" in own.kinds else "time"
        raise UnsupportedHostError(f"{kind} namespaces are not supported")
    plan = plan_mounts(
        spec.mounts,
        devices=spec.linux.devices,
        cgroups=cgroup_view(cgroup_join),
        userns="user" in own.kinds,
        confined=confined,
        own_network="network" in own.kinds,
        uids=spec.linux.uid_mappings,
        gids=spec.linux.gid_mappings,
        label=spec.linux.mount_label,
        top_only=stages is not None,
    )
    kept = _kept_propagation(spec.linux.rootfs_propagation)
    cgroup, joins = _cgroup_operations(cgroup_join)
    operations: list[Operation] = [*joins, *_host_labels(spec.process, spec.linux.mount_label)]
    if environment is not None:
        operations.append(("environment", environment))
    if spec.process.oom_score_adj is not None:
        operations.append(("oom_score_adj", spec.process.oom_score_adj))
    root = _root_operation(spec, layers, upper, work, volatile)
    if own.is_late:
        root_slot = plan.new_slot()
        plan.host.append(("tree", root_slot, root[1], True))
        plan.host.append(("attributes", root_slot, 0, 0, kept, True))
        root = ("slot_root", root_slot)
        operations += _late_operations(spec, own, plan.host)
    else:
        operations += own.setns_operations(fork=True)
        if "cgroup" in own.fresh:
            operations.append(("unshare", CLONE_NEWCGROUP))
        operations += plan.host
    if keyring is not None:
        operations.append(("keyring", keyring))
    # Before hooks mount anything: a host that systemd runs would get it, too.
    operations.append(("private",) if kept == kernel.MS_PRIVATE else ("private", kept))
    if stages is not None:
        operations += stages.before_root()
    operations += plan.fresh
    operations.append(root)
    operations.append(("pivot",) if stages is None or stages.pivot else ("change_root",))
    operations += plan.inside
    if spec.process.terminal:
        operations.append(("console", True, spec.process.user.uid))
    operations += _sysctl_operations(spec, own.kinds)
    if spec.linux.masked_paths:
        operations.append(("mask", spec.linux.masked_paths))
    if spec.linux.readonly_paths:
        operations.append(("readonly", spec.linux.readonly_paths))
    operations.append(("workdir", spec.process.cwd, True))
    operations += plan.last
    if spec.root.readonly or (layers and upper is None):
        operations.append(("mount_attributes", "/", kernel.MOUNT_ATTR_RDONLY))
    if spec.linux.rootfs_propagation:
        operations.append(_propagation_operation(spec.linux.rootfs_propagation))
    operations += _name_operations(spec, own.kinds)
    if "network" in own.fresh:
        operations.append(("loopback",))
    if not own.is_late:
        operations += rlimit_operations(spec.process)
    operations += process_operations(
        spec.process,
        spec.linux.seccomp,
        init=init,
        personality=spec.linux.personality,
        gate=() if stages is None else stages.before_exec(),
        last=() if stages is None else stages.last(),
    )
    return Program(own.birth_flags(), tuple(operations), cgroup)


def keyring_name(container_id: str) -> str:
    """Return the name of its session keyring, which the kernel wants to begin with no dot."""
    return f"_ses.{container_id}"


def _late_operations(spec: Spec, own: "_Namespaces", host: list[Operation]) -> list[Operation]:
    """Return how a user or time namespace is entered, when all of the host's is in hand.

    Only children are in a new pid or time namespace, so all ends in a fork.
    """
    # First what forks helpers with the host in view: no other pid namespace is to see them.
    operations = [*host, *own.setns_operations(fork=False), *rlimit_operations(spec.process)]
    if "user" in own.fresh:
        if not spec.linux.uid_mappings or not spec.linux.gid_mappings:
            raise ContainerError("a user namespace needs uidMappings and gidMappings")
        operations += [("unshare", CLONE_NEWUSER), ("stop", "mappings")]
    elif "user" in own.pinned:
        operations.append(("setns", own.pinned["user"], CLONE_NEWUSER))
    if "user" in own.kinds:
        operations.append(("identity",))
    operations.append(("unshare", sum(NAMESPACE_FLAGS[kind] for kind in own.fresh - {"user"})))
    if spec.linux.time_offsets:
        if "time" not in own.fresh:
            raise ContainerError("timeOffsets need a new time namespace")
        operations.append(("stop", "offsets"))
    return [*operations, ("fork",)]


def compile_enter(
    process: Process,
    *,
    seccomp: Seccomp | None = None,
    personality: Personality | None = None,
    cgroup_join: Sequence[str] = (),
    environment: str | None = None,
    namespaces: int = _ALL_NAMESPACES,
    prelude: Sequence[Operation] = (),
    gate: Sequence[Operation] = (),
) -> Program:
    """Return the program that runs *process* inside a running container.

    *namespaces* are those it has of its own, as flags; *prelude* comes first in there, *gate* last
    before the exec.

    The process gets all of its privileges, and loses all others, before it is born into the
    container's pid namespace, where somebody could get hold of it.

    Raises:
        ContainerError, UnsupportedHostError: as for `compile_program`.
    """
    cgroup, joins = _cgroup_operations(cgroup_join)
    operations: list[Operation] = [*joins, *_host_labels(process)]
    if environment is not None:
        operations.append(("environment", environment))
    if process.oom_score_adj is not None:
        operations.append(("oom_score_adj", process.oom_score_adj))
    operations += rlimit_operations(process)
    operations.append(("enter", namespaces))
    if namespaces & CLONE_NEWUSER:
        operations.append(("identity",))
    operations += prelude
    if process.terminal:
        operations.append(("console", False, process.user.uid))
    operations.append(("workdir", process.cwd, False))
    operations += process_operations(
        process, seccomp, init=False, fork=True, personality=personality, gate=gate
    )
    return Program(0, tuple(operations), cgroup)


def _host_labels(process: Process, mount_label: str | None = None) -> list[Operation]:
    """Return how the host is asked for what labels need, while it is in view."""
    modules = [*labels_of(process), *([SELINUX] if mount_label else [])]
    if not modules:
        return []
    return [("labels", tuple(dict.fromkeys(modules)), bool(labels_of(process)))]


class _Namespaces:
    """Which namespaces a container has: *pinned* with their paths, and *fresh* kinds."""

    __slots__ = ("among", "fresh", "pinned")

    def __init__(self, pinned: dict[str, str], fresh: set[str], among: str | None) -> None:
        self.pinned = pinned
        self.fresh = fresh
        self.among = among

    @property
    def kinds(self) -> set[str]:
        return self.fresh | self.pinned.keys()

    @property
    def is_late(self) -> bool:
        """Whether one of them can only be entered with the host's things in hand already."""
        return "user" in self.kinds or "time" in self.fresh

    def birth_flags(self) -> int:
        """Return those to be born into; a new cgroup namespace comes after the cgroups."""
        if self.is_late:
            return 0
        return sum(NAMESPACE_FLAGS[kind] for kind in self.fresh if kind != "cgroup")

    def setns_operations(self, *, fork: bool) -> list[Operation]:
        """Return how the pinned ones but a user namespace are entered."""
        operations: list[Operation] = []
        for kind, path in self.pinned.items():
            if kind == "user":
                continue
            operations.append(("setns", path, NAMESPACE_FLAGS[kind]))
            if kind == "pid" and fork:
                operations.append(("fork",))  # only children enter a pid namespace, setns(2)
        if self.among is not None:
            operations += [("among", self.among), ("fork",)]
        return operations


def _namespaces(spec: Spec, netns: str | None, among: str | None) -> _Namespaces:
    pinned: dict[str, str] = {}
    fresh: set[str] = set()
    for namespace in spec.linux.namespaces:
        if namespace.type not in NAMESPACE_FLAGS:
            raise ContainerError(f"there is no namespace type {namespace.type}")
        if namespace.type in fresh or namespace.type in pinned:
            raise ContainerError(f"namespace type {namespace.type} is given twice")
        if namespace.path:
            pinned[namespace.type] = namespace.path
        else:
            fresh.add(namespace.type)
    if netns is not None:
        fresh.discard("network")
        pinned["network"] = netns
    if among is not None:
        fresh.discard("pid")
    if "mount" not in fresh:
        raise ContainerError("a container needs a mount namespace of its own")
    return _Namespaces(pinned, fresh, among)


def _cgroup_operations(join_files: Sequence[str]) -> tuple[str | None, list[Operation]]:
    """Return the version 2 group to be born into, and how the version 1 groups are joined."""
    unified = [file for file in join_files if file.endswith("/cgroup.procs")]
    if len(unified) > 1:
        raise ContainerError(f"more than one version 2 cgroup: {' '.join(unified)}")
    joins: list[Operation] = [("join", file) for file in join_files if file not in unified]
    return (unified[0].removesuffix("/cgroup.procs") if unified else None), joins


def _root_operation(
    spec: Spec, layers: Sequence[str], upper: str | None, work: str | None, volatile: bool
) -> Operation:
    if (upper is None) != (work is None):
        raise ContainerError("an overlay has both an upper and a work folder, or neither")
    if upper is None and len(layers) == 1:
        return ("bind_root", layers[0])
    if layers:
        return ("overlay", tuple(layers), upper, work, volatile)
    if not spec.root.path.startswith("/"):
        raise ContainerError(f"root {spec.root.path} is not absolute")
    return ("bind_root", spec.root.path)


def _kept_propagation(word: str | None) -> int:
    """Return how the container's mounts are kept from the host.

    The host's mounts reach the container only where the root is to follow them.
    """
    follows = (word or "").removeprefix("r") in ("shared", "slave")
    return kernel.MS_SLAVE if follows else kernel.MS_PRIVATE


def _name_operations(spec: Spec, kinds: set[str]) -> list[Operation]:
    operations: list[Operation] = []
    for operation, name in (("hostname", spec.hostname), ("domainname", spec.domainname)):
        if not name:
            continue
        if "uts" not in kinds:
            raise ContainerError(f"{operation} {name} needs a uts namespace")
        operations.append((operation, name))
    return operations


def _propagation_operation(word: str) -> Operation:
    name = word.removeprefix("r")
    if name not in _ROOT_PROPAGATION:
        raise ContainerError(f"there is no mount propagation {word}")
    recursive = kernel.MS_REC if word.startswith("r") else 0
    return ("root_propagation", _ROOT_PROPAGATION[name] | recursive)


def _sysctl_operations(spec: Spec, own: set[str]) -> list[Operation]:
    operations: list[Operation] = []
    for name, value in spec.linux.sysctl.items():
        # As sysctl(8): with a slash in it a name is a path already, whose dots are dots.
        path = name if "/" in name else name.replace(".", "/")
        kinds = [kind for prefix, kind in _SYSCTL_NAMESPACE if path.startswith(prefix)]
        if not kinds or ".." in path.split("/"):
            raise ContainerError(f"sysctl {name} belongs to no namespace: it would change the host")
        if kinds[0] not in own:
            raise ContainerError(f"sysctl {name} needs a {kinds[0]} namespace")
        operations.append(("sysctl", path, value))
    return operations
