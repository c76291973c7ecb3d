"""OCI runtime-spec 1.2 as frozen dataclasses, and their JSON form.

Names are the specification's in snake case; ``from_json`` and ``to_json`` translate. Absent
members are None or empty. Where our engine needs more than the specification has (logs, restart,
health, networks), see runtime.container.config.

Source: opencontainers/runtime-spec, config.md and config-linux.md.
"""

import functools
import types
from collections.abc import Callable
from typing import Any, TypeVar

from runtime.record import dataclass, field, is_record

OCI_VERSION = "1.2.0"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs are looked for when neither image nor user says."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class User:
    """Numeric ids a process runs with."""

    uid: int = 0
    gid: int = 0
    umask: int | None = None
    additional_gids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Rlimit:
    """One resource limit; *type* is ``RLIMIT_NOFILE`` and so on, 2**64-1 is unlimited."""

    type: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The five sets, by name: ``CAP_CHOWN``."""

    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ConsoleSize:
    """Rows and columns of a terminal."""

    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Process:
    """What is executed."""

    args: tuple[str, ...]
    cwd: str = "/"
    env: tuple[str, ...] = ()
    user: User = User()
    terminal: bool = False
    capabilities: Capabilities = Capabilities()
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privileges: bool = True
    oom_score_adj: int | None = None
    apparmor_profile: str | None = None
    selinux_label: str | None = None
    console_size: ConsoleSize | None = None


@dataclass(frozen=True, slots=True)
class RootFs:
    """The root: *path* of the folder, or of nothing where layers are given beside the spec."""

    path: str = "rootfs"
    readonly: bool = False


@dataclass(frozen=True, slots=True)
class IdMapping:
    """*size* ids from *container_id* on are those from *host_id* on outside."""

    container_id: int
    host_id: int
    size: int


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount; *options* in mount(8) words, in order."""

    destination: str
    type: str | None = None
    source: str | None = None
    options: tuple[str, ...] = ()
    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()


@dataclass(frozen=True, slots=True)
class Namespace:
    """*type* is ``pid network mount ipc uts user cgroup time``; without *path* a new one."""

    type: str
    path: str | None = None


@dataclass(frozen=True, slots=True)
class LinuxDevice:
    """A device node to make; *type* is ``c``, ``b``, ``u`` or ``p``."""

    path: str
    type: str
    major: int = 0
    minor: int = 0
    file_mode: int | None = None
    uid: int | None = None
    gid: int | None = None


@dataclass(frozen=True, slots=True)
class DeviceRule:
    """One device-cgroup rule, applied in order; None matches all."""

    allow: bool
    type: str | None = None
    major: int | None = None
    minor: int | None = None
    access: str | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes; *swap* is memory plus swap, as in the specification (-1 unlimited)."""

    limit: int | None = None
    reservation: int | None = None
    swap: int | None = None


@dataclass(frozen=True, slots=True)
class Cpu:
    """*quota* and *period* in microseconds."""

    shares: int | None = None
    quota: int | None = None
    period: int | None = None
    cpus: str | None = None
    mems: str | None = None


@dataclass(frozen=True, slots=True)
class Pids:
    """Number of tasks."""

    limit: int


@dataclass(frozen=True, slots=True)
class ThrottleDevice:
    """Bytes or operations per second on one block device."""

    major: int
    minor: int
    rate: int


@dataclass(frozen=True, slots=True)
class BlockIo:
    """*weight* is 10 to 1000 (v1's range, as in the specification)."""

    weight: int | None = None
    throttle_read_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_read_iops_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_iops_device: tuple[ThrottleDevice, ...] = ()


@dataclass(frozen=True, slots=True)
class Resources:
    """Limits of the container's cgroup."""

    devices: tuple[DeviceRule, ...] = ()
    memory: Memory | None = None
    cpu: Cpu | None = None
    pids: Pids | None = None
    block_io: BlockIo | None = None
    unified: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SeccompArg:
    """A condition on one argument."""

    index: int
    value: int
    op: str
    value_two: int = 0


@dataclass(frozen=True, slots=True)
class SyscallRule:
    """What happens for these calls when all *args* hold."""

    names: tuple[str, ...]
    action: str
    errno_ret: int | None = None
    args: tuple[SeccompArg, ...] = ()


@dataclass(frozen=True, slots=True)
class Seccomp:
    """A seccomp profile."""

    default_action: str
    default_errno_ret: int | None = None
    architectures: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    syscalls: tuple[SyscallRule, ...] = ()
    listener_path: str | None = None
    listener_metadata: str | None = None


@dataclass(frozen=True, slots=True)
class Linux:
    """The Linux section."""

    namespaces: tuple[Namespace, ...] = ()
    devices: tuple[LinuxDevice, ...] = ()
    cgroups_path: str | None = None
    resources: Resources = Resources()
    sysctl: dict[str, str] = field(default_factory=dict)
    seccomp: Seccomp | None = None
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    rootfs_propagation: str | None = None
    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()
    time_offsets: dict[str, dict[str, int]] = field(default_factory=dict)
    """Clock (``monotonic``, ``boottime``) to ``secs`` and ``nanosecs``."""


@dataclass(frozen=True, slots=True)
class Hook:
    """A program of the operator's, run at one point; *timeout* in seconds."""

    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] | None = None
    timeout: int | None = None


@dataclass(frozen=True, slots=True)
class Hooks:
    """What is run when, each in order."""

    prestart: tuple[Hook, ...] = ()
    create_runtime: tuple[Hook, ...] = ()
    create_container: tuple[Hook, ...] = ()
    start_container: tuple[Hook, ...] = ()
    poststart: tuple[Hook, ...] = ()
    poststop: tuple[Hook, ...] = ()


@dataclass(frozen=True, slots=True)
class Spec:
    """A container's config.json."""

    process: Process
    root: RootFs = RootFs()
    hostname: str | None = None
    domainname: str | None = None
    mounts: tuple[Mount, ...] = ()
    annotations: dict[str, str] = field(default_factory=dict)
    linux: Linux = Linux()
    hooks: Hooks = Hooks()
    oci_version: str = OCI_VERSION


# Spellings that are not plain camelCase.
_SPELLING = {
    "block_io": "blockIO",
    "oci_version": "ociVersion",
    "throttle_read_iops_device": "throttleReadIOPSDevice",
    "throttle_write_iops_device": "throttleWriteIOPSDevice",
    "additional_gids": "additionalGids",
    "container_id": "containerID",
    "host_id": "hostID",
}


_SCALARS = frozenset((str, int, bool, float, type(None)))


def json_key(name: str) -> str:
    """Return how a member is spelled in JSON."""
    if name in _SPELLING:
        return _SPELLING[name]
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def to_json(value: Any) -> Any:
    """Return *value* as JSON data; members that are None or empty are left out."""
    kind: Any = type(value)
    if kind in _SCALARS:
        return value
    if kind is tuple:
        return [to_json(v) for v in value]
    if kind is dict:
        return {k: to_json(v) for k, v in value.items()}
    tree = {}
    for name, key in _keys(kind):
        member = to_json(getattr(value, name))
        if member is not None and member != [] and member != {}:
            tree[key] = member
    return tree


@functools.cache
def _keys(cls: Any) -> tuple[tuple[str, str], ...]:
    """Return the members of a dataclass, each with its key in JSON."""
    return tuple((name, json_key(name)) for name in cls.__annotations__)


def from_json(cls: type[T], data: dict[str, Any]) -> T:
    """Return *data* as a *cls*; members this version does not know are ignored (spec: config.md).

    Raises:
        TypeError: a required member is missing.
    """
    kind: Any = cls
    decode = _decoder(kind)
    if decode is None:
        raise TypeError(f"{cls.__name__} has no members")
    made: T = decode(data)
    return made


@functools.cache
def _decoder(hint: Any) -> Callable[[Any], Any] | None:
    """Return what makes a value of the type *hint* from JSON, or None if it is the same there.

    The annotations here are types, never their names, so nobody has to look those up: typing and
    dataclasses take longer to import than a container to start.
    """
    if is_record(hint):
        hints = hint.__annotations__
        names = {key: name for name, key in _keys(hint)}
        # Filled as they are met: most of a spec's types are in no container at hand.
        members: dict[str, Callable[[Any], Any] | None] = {}

        def decoder(data: dict[str, Any]) -> Any:
            found = {}
            for key, value in data.items():
                if (name := names.get(key)) is None:
                    continue
                if key not in members:
                    members[key] = _decoder(hints[name])
                decode = members[key]
                found[name] = value if decode is None else decode(value)
            return hint(**found)

        return decoder
    arguments: tuple[Any, ...] = getattr(hint, "__args__", ())
    if isinstance(hint, types.UnionType):
        (inner,) = (_decoder(a) for a in arguments if a is not types.NoneType)
        return inner and (lambda value: None if value is None else inner(value))
    if getattr(hint, "__origin__", None) is tuple:
        element = _decoder(arguments[0])
        if element is None:
            return lambda value: tuple(value or ())
        return lambda value: tuple([element(v) for v in value or ()])
    return None
