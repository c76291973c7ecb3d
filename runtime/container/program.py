"""An OCI spec, compiled to the launch program that makes it real. Pure.

The order is what makes it right:

1. in the host's view: join the cgroups, then namespaces, then clone what will be bound;
2. mount the root and pivot into it, at once: from here on no path can lead to the host;
3. in the container's view: mounts, devices, terminal, sysctls, masks, read-only;
4. the process: limits, then the loss of privileges, each step while it is still allowed;
5. the system call filter last, so that it need not allow what the set-up needs. Without
   no_new_privs loading one takes CAP_SYS_ADMIN, so then it comes before the privileges go.

`runtime.kernel.program` lists the operations.
"""

from collections.abc import Sequence

from runtime.container.defaults import PATH
from runtime.errors import ContainerError, UnsupportedHostError
from runtime.kernel import mount as kernel
from runtime.kernel.capability import to_mask
from runtime.kernel.namespaces import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUTS,
    NAMESPACE_FLAGS,
)
from runtime.kernel.program import Operation, Program
from runtime.kernel.seccomp import compile_profile, filter_flags
from runtime.rootfs.plan import cgroup_view, plan_mounts
from runtime.spec import Capabilities, Process, Seccomp, Spec

DEFAULT_UMASK = 0o022

# getrlimit(2); asm-generic/resource.h
_RLIMITS = (
    *("RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_DATA", "RLIMIT_STACK", "RLIMIT_CORE", "RLIMIT_RSS"),
    *("RLIMIT_NPROC", "RLIMIT_NOFILE", "RLIMIT_MEMLOCK", "RLIMIT_AS", "RLIMIT_LOCKS"),
    *("RLIMIT_SIGPENDING", "RLIMIT_MSGQUEUE", "RLIMIT_NICE", "RLIMIT_RTPRIO", "RLIMIT_RTTIME"),
)
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
    cgroup_join: Sequence[str] = (),
    init: bool = False,
    environment: str | None = None,
) -> Program:
    """Return the program that starts *spec*'s process in its container.

    The root is an overlay of *layers* (absolute, lowest first) under *upper* and *work*, or
    without layers the folder ``spec.root.path``. *netns* is a pinned network namespace and wins
    over the one in the spec. *cgroup_join* are the ``tasks`` and ``cgroup.procs`` files of the
    container's cgroup. *environment* is a file with variables beyond the spec's, which are in no
    program because programs are stored.

    Raises:
        ContainerError: the spec contradicts itself or asks for what would change the host.
        UnsupportedHostError: it asks for something not supported here.
    """
    _refuse_labels(spec.process)
    pinned, fresh = _namespaces(spec, netns)
    plan = plan_mounts(spec.mounts, devices=spec.linux.devices, cgroups=cgroup_view(cgroup_join))
    cgroup, joins = _cgroup_operations(cgroup_join)
    operations: list[Operation] = list(joins)
    if environment is not None:
        operations.append(("environment", environment))
    if spec.process.oom_score_adj is not None:
        operations.append(("oom_score_adj", spec.process.oom_score_adj))
    for kind, path in pinned.items():
        operations.append(("setns", path, NAMESPACE_FLAGS[kind]))
        if kind == "pid":
            operations.append(("fork",))  # only children enter a pid namespace, setns(2)
    if "cgroup" in fresh:
        operations.append(("unshare", CLONE_NEWCGROUP))
    operations += plan.host
    operations.append(("private",))
    operations.append(_root_operation(spec, layers, upper, work, volatile))
    operations.append(("pivot",))
    operations += plan.inside
    if spec.process.terminal:
        operations.append(("console", True, spec.process.user.uid))
    operations += _sysctl_operations(spec, fresh | pinned.keys())
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
    if spec.hostname:
        if "uts" not in fresh | pinned.keys():
            raise ContainerError(f"host name {spec.hostname} needs a uts namespace")
        operations.append(("hostname", spec.hostname))
    if "network" in fresh:
        operations.append(("loopback",))
    operations += _process_operations(spec.process, spec.linux.seccomp, init=init)
    flags = sum(NAMESPACE_FLAGS[kind] for kind in fresh if kind != "cgroup")
    return Program(flags, tuple(operations), cgroup)


def compile_enter(
    process: Process,
    *,
    seccomp: Seccomp | None = None,
    cgroup_join: Sequence[str] = (),
    environment: str | None = None,
) -> Program:
    """Return the program that runs *process* inside a running container.

    The process gets all of its privileges, and loses all others, before it is born into the
    container's pid namespace, where somebody could get hold of it.

    Raises:
        ContainerError, UnsupportedHostError: as for `compile_program`.
    """
    _refuse_labels(process)
    cgroup, joins = _cgroup_operations(cgroup_join)
    operations: list[Operation] = list(joins)
    if environment is not None:
        operations.append(("environment", environment))
    if process.oom_score_adj is not None:
        operations.append(("oom_score_adj", process.oom_score_adj))
    operations.append(("enter", _ALL_NAMESPACES))
    if process.terminal:
        operations.append(("console", False, process.user.uid))
    operations.append(("workdir", process.cwd, False))
    operations += _process_operations(process, seccomp, init=False, fork=True)
    return Program(0, tuple(operations), cgroup)


def _process_operations(
    process: Process, seccomp: Seccomp | None, *, init: bool, fork: bool = False
) -> list[Operation]:
    if not process.args:
        raise ContainerError("there is no command to run")
    operations: list[Operation] = []
    for limit in process.rlimits:
        if limit.type not in _RLIMITS:
            raise ContainerError(f"there is no resource limit {limit.type}")
        operations.append(("rlimit", _RLIMITS.index(limit.type), limit.soft, limit.hard))
    user = process.user
    operations.append(("umask", DEFAULT_UMASK if user.umask is None else user.umask))
    load_filter = _seccomp_operations(seccomp)
    fork_operations: list[Operation] = [("fork",)] if fork else []
    if not process.no_new_privileges:
        # The filter may forbid the fork, so that comes even earlier.
        operations += [*fork_operations, *load_filter]
    operations += _privilege_operations(process.capabilities, process)
    search_path = _search_path(process.env)
    operations.append(("find", process.args[0], tuple(search_path.split(":"))))
    if process.no_new_privileges:
        operations += [("no_new_privs",), *fork_operations]
    operations.append(("session", process.terminal and not init))
    if process.no_new_privileges:
        operations += load_filter
    operations.append(("init" if init else "exec", process.args, process.env))
    return operations


def _privilege_operations(capabilities: Capabilities, process: Process) -> list[Operation]:
    user = process.user
    return [
        ("bounding", to_mask(capabilities.bounding)),
        ("user", user.uid, user.gid, user.additional_gids),
        (
            "capabilities",
            to_mask(capabilities.effective),
            to_mask(capabilities.permitted),
            to_mask(capabilities.inheritable),
            to_mask(capabilities.ambient),
        ),
    ]


def _seccomp_operations(seccomp: Seccomp | None) -> list[Operation]:
    if seccomp is None:
        return []
    return [("seccomp", compile_profile(seccomp).hex(), filter_flags(seccomp))]


def _search_path(env: Sequence[str]) -> str:
    values = [item.removeprefix("PATH=") for item in env if item.startswith("PATH=")]
    return values[-1] if values else PATH


def _namespaces(spec: Spec, netns: str | None) -> tuple[dict[str, str], set[str]]:
    """Return the namespaces to enter, with their paths, and the kinds to make anew."""
    pinned: dict[str, str] = {}
    fresh: set[str] = set()
    for namespace in spec.linux.namespaces:
        if namespace.type not in NAMESPACE_FLAGS:
            raise ContainerError(f"there is no namespace type {namespace.type}")
        if namespace.type in ("user", "time"):
            raise UnsupportedHostError(f"{namespace.type} namespaces are not supported")
        if namespace.type in fresh or namespace.type in pinned:
            raise ContainerError(f"namespace type {namespace.type} is given twice")
        if namespace.path:
            pinned[namespace.type] = namespace.path
        else:
            fresh.add(namespace.type)
    if netns is not None:
        fresh.discard("network")
        pinned["network"] = netns
    if "mount" not in fresh:
        raise ContainerError("a container needs a mount namespace of its own")
    return pinned, fresh


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


def _refuse_labels(process: Process) -> None:
    if process.apparmor_profile:
        raise UnsupportedHostError("apparmor profiles are not supported")
    if process.selinux_label:
        raise UnsupportedHostError("selinux labels are not supported")
