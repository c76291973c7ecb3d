"""Typed views of canonical spec trees, one dataclass per object of the manifest language.

Field names are the manifest's, in snake case; the JSON Schemas in ``schemas/`` describe them and
hold the defaults, and a test keeps the two the same. Units: sizes in bytes, durations in seconds,
cpus in cores. Fields that may be None are absent unless asked for.
"""

from runtime.record import dataclass, field


@dataclass(frozen=True, slots=True)
class ImageRef:
    """Which image: a resource of this project, or of another one."""

    name: str
    project: str | None = None


@dataclass(frozen=True, slots=True)
class EnvVar:
    """One environment variable: a literal *value*, or a *key* of a Secret or Config."""

    value: str | None = None
    secret: str | None = None
    config: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class NetworkJoin:
    """One network joined; list merge key ``name``."""

    name: str
    project: str | None = None
    aliases: tuple[str, ...] = ()
    ip: str | None = None


@dataclass(frozen=True, slots=True)
class TmpfsOptions:
    """Options of a tmpfs mount."""

    size: int = 67108864
    mode: str = "1777"


@dataclass(frozen=True, slots=True)
class VolumeMount:
    """One mount, of exactly one of *volume*, *bind*, *tmpfs*; merge key ``target``."""

    target: str
    volume: str | None = None
    project: str | None = None
    bind: str | None = None
    create: bool = False
    tmpfs: TmpfsOptions | None = None
    read_only: bool = False
    copy: bool = True
    """A named volume that is empty and was never used gets what the image holds at *target*."""
    propagation: str = "private"


@dataclass(frozen=True, slots=True)
class FileMount:
    """A Config or Secret, or one key of it, as a read-only file or folder; key ``target``."""

    name: str
    target: str
    key: str | None = None
    uid: int = 0
    gid: int = 0
    mode: str = "0444"


@dataclass(frozen=True, slots=True)
class IoDevice:
    """Throttle of one block device; bytes and operations per second; merge key ``path``."""

    path: str
    read_bps: int | None = None
    write_bps: int | None = None
    read_iops: int | None = None
    write_iops: int | None = None


@dataclass(frozen=True, slots=True)
class IoLimits:
    """Block I/O."""

    weight: int | None = None
    devices: tuple[IoDevice, ...] = ()


@dataclass(frozen=True, slots=True)
class Resources:
    """Limits; None means the kernel's default."""

    memory: int | None = None
    memory_swap: int | None = None
    """Swap on top of *memory*; 0 forbids it."""
    memory_reservation: int | None = None
    cpus: float | None = None
    cpu_weight: int | None = None
    """1 to 10000, 100 is neutral (cgroup v2 ``cpu.weight``; shares on v1)."""
    cpuset: str | None = None
    pids: int | None = 4096
    io: IoLimits | None = None
    oom_score_adj: int | None = None


@dataclass(frozen=True, slots=True)
class Ulimit:
    """Soft and hard value; -1 is unlimited."""

    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Changes to the default set; ``ALL`` is understood; names without ``CAP_``."""

    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Device:
    """A device node of the host; merge key ``target``."""

    path: str
    target: str
    permissions: str = "rwm"


@dataclass(frozen=True, slots=True)
class HttpProbe:
    """GET, from inside the container's network; healthy is any 2xx or 3xx."""

    port: int
    path: str = "/"
    host: str | None = None


@dataclass(frozen=True, slots=True)
class TcpProbe:
    """A connection can be made."""

    port: int


@dataclass(frozen=True, slots=True)
class ExecProbe:
    """A command inside the container exits with 0."""

    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Health:
    """Health check, of exactly one of *http*, *tcp*, *exec*."""

    http: HttpProbe | None = None
    tcp: TcpProbe | None = None
    exec: ExecProbe | None = None
    interval: float = 10.0
    timeout: float = 3.0
    retries: int = 3
    start_period: float = 0.0
    on_unhealthy: str = "restart"
    """``restart | none``"""


@dataclass(frozen=True, slots=True)
class Restart:
    """What happens when the container ends."""

    policy: str = "always"
    """``no | on-failure | always | unless-stopped``; a Job has ``no`` unless it says otherwise."""
    max_retries: int | None = None
    """Of on-failure: give up after that many in a row; None is never."""
    backoff: float = 0.1
    """First wait; doubles up to *max_backoff*, starts over after 10 s of running."""
    max_backoff: float = 60.0


@dataclass(frozen=True, slots=True)
class Logs:
    """Rotation of the container's log."""

    max_size: int = 10485760
    max_files: int = 3


@dataclass(frozen=True, slots=True)
class Dns:
    """Overrides of name resolution."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """What runs in a container; the same under Container, Service and Job.

    ``None`` in *entrypoint*, *command*, *workdir*, *user*, *stop_signal* means the image's.
    *entrypoint* set and *command* not drops the image's command, as in Docker.
    """

    image: ImageRef
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    env: dict[str, EnvVar] = field(default_factory=dict)
    workdir: str | None = None
    user: str | None = None
    groups: tuple[str, ...] = ()
    hostname: str | None = None
    tty: bool = False
    init: bool = False
    network_mode: str = "bridge"
    """``bridge | host | none``; bridge without *networks* joins the project's ``default``."""
    networks: tuple[NetworkJoin, ...] = ()
    extra_hosts: dict[str, str] = field(default_factory=dict)
    """Name -> address; ``host-gateway`` is the host as seen from the first network."""
    dns: Dns | None = None
    volumes: tuple[VolumeMount, ...] = ()
    configs: tuple[FileMount, ...] = ()
    secrets: tuple[FileMount, ...] = ()
    devices: tuple[Device, ...] = ()
    shm_size: int = 67108864
    resources: Resources = Resources()
    ulimits: dict[str, Ulimit] = field(default_factory=dict)
    sysctls: dict[str, str] = field(default_factory=dict)
    read_only: bool = False
    privileged: bool = False
    capabilities: Capabilities = Capabilities()
    no_new_privileges: bool = True
    seccomp: str = "default"
    """``default | unconfined``"""
    stop_signal: str | None = None
    stop_grace: float = 10.0
    restart: Restart = Restart()
    health: Health | None = None
    logs: Logs = Logs()


@dataclass(frozen=True, slots=True)
class Publish:
    """One published port; merge key ``ip, port, protocol``."""

    port: int
    target_port: int
    protocol: str = "tcp"
    ip: str = "0.0.0.0"


@dataclass(frozen=True, slots=True)
class Update:
    """How a change is rolled out."""

    order: str | None = None
    """``start-first | stop-first``; None: stop-first with a writable volume, host network or
    device, else start-first."""
    batch: int = 1
    healthy_for: float = 1.0
    on_failure: str = "rollback"


@dataclass(frozen=True, slots=True)
class Container:
    """Spec of kind Container."""

    container: ContainerSpec
    publish: tuple[Publish, ...] = ()
    state: str = "running"
    """``running | stopped``"""
    update: Update = Update()


@dataclass(frozen=True, slots=True)
class Service:
    """Spec of kind Service."""

    container: ContainerSpec
    replicas: int = 1
    publish: tuple[Publish, ...] = ()
    state: str = "running"
    update: Update = Update()


@dataclass(frozen=True, slots=True)
class Job:
    """Spec of kind Job."""

    container: ContainerSpec
    per_host: bool = False
    rerun: str = "onChange"
    """``onChange | always | never``"""
    idempotent: bool = False
    retries: int = 0
    timeout: float = 600.0
    undo: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Network:
    """Spec of kind Network."""

    subnet: str | None = None
    """None: a free /24 of the host's pool, kept for good once taken."""
    gateway: str | None = None
    """None: the first address of the subnet."""
    internal: bool = False
    """No way out to other networks, no published ports."""
    mtu: int | None = None
    scope: str = "host"


@dataclass(frozen=True, slots=True)
class Volume:
    """Spec of kind Volume."""

    shared_writers: bool = False
    uid: int | None = None
    gid: int | None = None
    mode: str | None = None


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """Defaults an image gives its containers (OCI image config)."""

    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    env: dict[str, str] = field(default_factory=dict)
    workdir: str | None = None
    user: str | None = None
    stop_signal: str | None = None
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ArchiveSource:
    """A docker-archive or OCI archive (tar or folder)."""

    path: str
    reference: str | None = None
    """Which image, where the archive holds several."""


@dataclass(frozen=True, slots=True)
class HostSource:
    """Programs of this host with the shared libraries they need."""

    programs: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    """Further files and folders, copied to the same path."""


@dataclass(frozen=True, slots=True)
class DebianSource:
    """A Debian root made with mmdebstrap from the host's own apt sources."""

    packages: tuple[str, ...] = ()
    suite: str | None = None
    """None: the host's."""
    variant: str = "apt"
    """mmdebstrap's: ``extract | custom | essential | apt | required | minbase``."""


@dataclass(frozen=True, slots=True)
class Image:
    """Spec of kind Image, of exactly one of *archive*, *host*, *debian*."""

    archive: ArchiveSource | None = None
    host: HostSource | None = None
    debian: DebianSource | None = None
    config: ImageConfig = ImageConfig()


@dataclass(frozen=True, slots=True)
class ConfigItem:
    """Content of one key: text in the manifest, or a file beside it (UTF-8 or base64)."""

    text: str | None = None
    file: str | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """Spec of kind Config; canonical *data* holds the content itself."""

    data: dict[str, ConfigItem]
    template: bool = False


@dataclass(frozen=True, slots=True)
class SecretItem:
    """Source of one key's value: exactly one of the four, or *text* with allowPlaintext."""

    file: str | None = None
    from_env: str | None = None
    command: tuple[str, ...] | None = None
    encrypted: str | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Secret:
    """Spec of kind Secret; canonical *data* holds HMACs, never values."""

    data: dict[str, SecretItem]
    allow_plaintext: bool = False
    identity: str | None = None
    """File with the age identity that opens *encrypted* values."""


@dataclass(frozen=True, slots=True)
class Host:
    """Spec of kind Host."""

    address: str = "local"
    connection: str = "local"
    """``local | ssh | agent``; only local is reached yet."""
    user: str | None = None
    port: int | None = None
    identity_file: str | None = None


@dataclass(frozen=True, slots=True)
class Project:
    """Spec of kind Project."""

    prune: bool = True
