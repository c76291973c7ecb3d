"""OCI runtime-spec 1.2 as frozen dataclasses.

Names are the specification's in snake case; `runtime.json_data` translates. Absent members are
None or empty. Where our engine needs more than the specification has (logs, restart,
health, networks), see runtime.container.config.

Source: opencontainers/runtime-spec, config.md and config-linux.md.
"""

from runtime.record import dataclass, field
from runtime.version import OCI_VERSION

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs are looked for when neither image nor user says."""


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
class Scheduler:
    """How the process is scheduled, sched_setattr(2); times, for SCHED_DEADLINE, in nanoseconds."""

    policy: str
    nice: int = 0
    priority: int = 0
    flags: tuple[str, ...] = ()
    runtime: int = 0
    deadline: int = 0
    period: int = 0


@dataclass(frozen=True, slots=True)
class IoPriority:
    """Priority in the queue of block devices, ioprio_set(2); *priority* from 0 (first) to 7."""

    cls: str
    priority: int = 0


@dataclass(frozen=True, slots=True)
class CpuAffinity:
    """Lists of CPUs for an exec: before it is in the container's cgroup, and from then on."""

    initial: str | None = None
    final: str | None = None


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
    scheduler: Scheduler | None = None
    io_priority: IoPriority | None = None
    exec_cpu_affinity: CpuAffinity | None = None


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

    @property
    def triple(self) -> tuple[int, int, int]:
        """In the order of a line of uid_map, user_namespaces(7)."""
        return self.container_id, self.host_id, self.size


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
    swappiness: int | None = None
    """0 to 100."""
    disable_oom_killer: bool | None = None
    use_hierarchy: bool | None = None
    """Nested groups count as part of it, which they do in any case since Linux 5.11."""
    check_before_update: bool | None = None
    """A limit below what is in use is refused, which we do in any case."""


@dataclass(frozen=True, slots=True)
class Cpu:
    """Times in microseconds; *idle* 1 is SCHED_IDLE for the whole group."""

    shares: int | None = None
    quota: int | None = None
    burst: int | None = None
    period: int | None = None
    realtime_runtime: int | None = None
    realtime_period: int | None = None
    cpus: str | None = None
    mems: str | None = None
    idle: int | None = None


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
class WeightDevice:
    """The weights on one block device."""

    major: int
    minor: int
    weight: int | None = None
    leaf_weight: int | None = None


@dataclass(frozen=True, slots=True)
class BlockIo:
    """Weights are 10 to 1000 (v1's range, as in the specification)."""

    weight: int | None = None
    leaf_weight: int | None = None
    weight_device: tuple[WeightDevice, ...] = ()
    throttle_read_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_read_iops_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_iops_device: tuple[ThrottleDevice, ...] = ()


@dataclass(frozen=True, slots=True)
class HugepageLimit:
    """Bytes in huge pages of one size, ``2MB``."""

    page_size: str
    limit: int


@dataclass(frozen=True, slots=True)
class InterfacePriority:
    """Priority of what is sent through a network interface of the host's."""

    name: str
    priority: int


@dataclass(frozen=True, slots=True)
class NetworkResources:
    """Marks of what the group sends: the class for tc(8), and the priorities."""

    class_id: int | None = None
    priorities: tuple[InterfacePriority, ...] = ()


@dataclass(frozen=True, slots=True)
class Rdma:
    """Handles and objects on one InfiniBand device."""

    hca_handles: int | None = None
    hca_objects: int | None = None


@dataclass(frozen=True, slots=True)
class Resources:
    """Limits of the container's cgroup."""

    devices: tuple[DeviceRule, ...] = ()
    memory: Memory | None = None
    cpu: Cpu | None = None
    pids: Pids | None = None
    block_io: BlockIo | None = None
    hugepage_limits: tuple[HugepageLimit, ...] = ()
    network: NetworkResources | None = None
    rdma: dict[str, Rdma] = field(default_factory=dict)
    """By device: ``mlx5_1``."""
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
class Personality:
    """Execution domain, ``LINUX`` or ``LINUX32``; no flags are defined."""

    domain: str


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
    personality: Personality | None = None
    mount_label: str | None = None


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
