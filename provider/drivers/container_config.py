"""An effective container spec as the runtime's config: pure, apart from device numbers.

The tree is what provider.planning.effective makes: image defaults merged in, ids and digests
bound. What only the host can tell (layers, numeric user, file sources) enters as arguments.
"""

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from provider.drivers.mark import mark_of
from provider.errors import ApplyError
from provider.model import specs
from provider.model.codec import decode
from provider.model.ids import InstanceId, Kind
from provider.model.signals import signal_number
from provider.model.tree import Tree
from runtime.container import defaults
from runtime.container.config import ContainerConfig, Health, Join, Logs
from runtime.container.devices import device_rules
from runtime.container.volume import data_folder
from runtime.container.wiring import ETC_FILES, etc_source
from runtime.kernel.seccomp_default import DEFAULT_PROFILE
from runtime.record import dataclass, replace
from runtime.root import Root
from runtime.spec import (
    BlockIo,
    Cpu,
    Linux,
    LinuxDevice,
    Memory,
    Mount,
    Pids,
    Process,
    Resources,
    Rlimit,
    RootFs,
    Spec,
    ThrottleDevice,
    User,
)
from runtime.supervisor.request import Restart

CPU_PERIOD_US = 100_000
_UNLIMITED = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Site:
    """What the host contributes to one container."""

    root: Root
    container_id: str
    layers: tuple[str, ...]
    """Layer folders, lowest first."""
    user: User
    """``container.user`` and ``groups`` as numbers, looked up in the image."""
    home: str = "/"
    """The user's, by the image; HOME unless the spec sets it."""
    files: tuple[Mount, ...] = ()
    """Configs and secrets, as binds."""
    created_at: float = 0.0


def container_name(instance: InstanceId) -> str:
    """Return the name people use: ``shop.web.0``, ``shop.redis``."""
    resource = instance.resource
    name = f"{resource.project}.{resource.name}"
    return f"{name}.{instance.index}" if instance.index >= 0 else name


def dns_names(instance: InstanceId, aliases: Sequence[str]) -> tuple[str, ...]:
    """Return what other containers of a network may call the instance."""
    name, project = instance.resource.name, instance.resource.project
    names = [name, f"{name}.{project}"]
    if instance.index >= 0:
        names.append(f"{name}-{instance.index}")
    return tuple(dict.fromkeys([*names, *aliases]))


def make_config(instance: InstanceId, tree: Tree, site: Site) -> ContainerConfig:
    """Return the config of the container that *tree* describes.

    Raises:
        ApplyError: a device of the host is missing, or there is no command to run.
    """
    container: Tree = tree["container"]
    job = instance.resource.kind is Kind.JOB
    restart = decode(specs.Restart, container["restart"])
    logs = decode(specs.Logs, container["logs"])
    dns = decode(specs.Dns, container["dns"]) if container["dns"] else specs.Dns()
    return ContainerConfig(
        id=site.container_id,
        name=container_name(instance),
        spec=_spec(instance, container, site),
        seccomp=DEFAULT_PROFILE if _is_confined(container) else "",
        layers=site.layers,
        image=container["image"]["digest"],
        network_mode=container["networkMode"],
        joins=tuple(
            Join(join["id"], join["ip"], dns_names(instance, join["aliases"]))
            for join in container["networks"]
        ),
        extra_hosts=dict(container["extraHosts"]),
        dns_servers=dns.servers,
        dns_search=dns.search,
        dns_options=dns.options,
        logs=Logs(logs.max_size, logs.max_files),
        restart=restart_of(replace(restart, policy="no") if job else restart),
        health=_health(container["health"]),
        stop_signal=_stop_signal(instance, container),
        stop_grace=container["stopGrace"],
        init=container["init"],
        balanced=instance.resource.kind is Kind.SERVICE,
        volatile=job,
        mark=mark_of(instance),
        labels=dict(tree["metadata"]["labels"]),
        created_at=site.created_at,
    )


def _stop_signal(instance: InstanceId, container: Tree) -> int:
    """Return the number; an image's word for it was looked at by nobody before."""
    try:
        return signal_number(container["stopSignal"])
    except ValueError as error:
        image = container["image"]["digest"]
        raise ApplyError(
            f"{instance}: stopSignal of the container or of its image {image}: {error}",
            hint="set spec.container.stopSignal to a signal that exists",
        ) from None


def restart_of(wanted: specs.Restart) -> Restart:
    """Return the restart policy in the words of the supervisor."""
    return Restart(
        policy=wanted.policy,
        max_retries=wanted.max_retries,
        backoff=wanted.backoff,
        max_backoff=wanted.max_backoff,
    )


def resources(container: Tree) -> Resources:
    """Return the limits of *container* as OCI resources; devices included."""
    limits = decode(specs.Resources, container["resources"])
    memory = None
    if limits.memory or limits.memory_reservation:
        swap = None
        if limits.memory and limits.memory_swap is not None:
            swap = limits.memory + limits.memory_swap
        memory = Memory(limits.memory, limits.memory_reservation, swap)
    quota = None if limits.cpus is None else round(limits.cpus * CPU_PERIOD_US)
    cpu = None
    if quota is not None or limits.cpuset:
        period = None if quota is None else CPU_PERIOD_US
        cpu = Cpu(quota=quota, period=period, cpus=limits.cpuset)
    # OCI knows version 1's weights only; this is exact on version 2, and true in ratio on 1.
    unified = {} if limits.cpu_weight is None else {"cpu.weight": str(limits.cpu_weight)}
    if limits.io and limits.io.weight is not None:
        unified["io.weight"] = f"default {limits.io.weight}"
    return Resources(
        devices=device_rules(
            ((device, use["permissions"]) for device, use in _devices(container)),
            privileged=container["privileged"],
        ),
        memory=memory,
        cpu=cpu,
        pids=None if limits.pids is None else Pids(limits.pids),
        block_io=_block_io(limits.io),
        unified=unified,
    )


def _spec(instance: InstanceId, container: Tree, site: Site) -> Spec:
    arguments = (*container["entrypoint"], *container["command"])
    if not arguments:
        raise ApplyError(
            f"{instance}: there is no command to run",
            hint="set spec.container.command, or command in the image's config",
        )
    privileged = container["privileged"]
    changes = decode(specs.Capabilities, container["capabilities"])
    capabilities = defaults.default_capabilities(
        uid=site.user.uid, add=changes.add, drop=changes.drop, privileged=privileged
    )
    name = instance.resource.name
    default_name = f"{name}-{instance.index}" if instance.index >= 0 else name
    env = tuple(
        f"{key}={value}"
        for key, value in ({"HOME": site.home} | container["env"]).items()
        if isinstance(value, str)
    )
    process = Process(
        args=arguments,
        cwd=container["workdir"],
        env=env,
        user=site.user,
        terminal=container["tty"],
        capabilities=capabilities,
        rlimits=tuple(
            _rlimit(limit, decode(specs.Ulimit, value))
            for limit, value in container["ulimits"].items()
        ),
        no_new_privileges=container["noNewPrivileges"] and not privileged,
        oom_score_adj=container["resources"]["oomScoreAdj"],
    )
    mode = container["networkMode"]
    linux = Linux(
        namespaces=defaults.default_namespaces(network=None if mode == "host" else ""),
        devices=tuple(device for device, _ in _devices(container)),
        resources=resources(container),
        sysctl=dict(container["sysctls"]),
        masked_paths=defaults.masked_paths(privileged=privileged),
        readonly_paths=defaults.readonly_paths(privileged=privileged),
    )
    return Spec(
        process=process,
        root=RootFs(readonly=container["readOnly"]),
        hostname=container["hostname"] or default_name,
        mounts=_mounts(container, site),
        linux=linux,
    )


def _is_confined(container: Tree) -> bool:
    return container["seccomp"] == "default" and not container["privileged"]


def _mounts(container: Tree, site: Site) -> tuple[Mount, ...]:
    standard = defaults.default_mounts(
        shm_bytes=container["shmSize"],
        own_network=container["networkMode"] != "host",
        privileged=container["privileged"],
    )
    etc = tuple(
        Mount(
            f"/etc/{name}", "bind", str(etc_source(site.root, site.container_id, name)),
            ("rbind", "rprivate"),
        )
        for name in ETC_FILES
    )  # fmt: skip
    volumes = [_volume(site.root, use) for use in container["volumes"]]
    # Parents before what is mounted inside them, whatever their order in the manifest.
    extra = sorted((*volumes, *site.files), key=lambda m: m.destination.rstrip("/").count("/"))
    return (*standard, *etc, *extra)


def _volume(root: Root, use: Tree) -> Mount:
    target = use["target"]
    if use["tmpfs"] is not None:
        limits = (f"size={use['tmpfs']['size']}", f"mode={use['tmpfs']['mode']}")
        access = "ro" if use["readOnly"] else "rw"
        return Mount(target, "tmpfs", "tmpfs", ("nosuid", "nodev", *limits, access))
    source = use["bind"] or str(data_folder(root, use["id"]))
    options = ("rbind", f"r{use['propagation']}", "ro" if use["readOnly"] else "rw")
    return Mount(target, "bind", source, options)


def _devices(container: Tree) -> list[tuple[LinuxDevice, Tree]]:
    return [(_device(use), use) for use in container["devices"]]


def _device(use: Tree) -> LinuxDevice:
    try:
        found = Path(use["path"]).stat()
    except OSError as error:
        raise ApplyError(f"device {use['path']}: {error.strerror}") from error
    kinds = {stat.S_IFCHR: "c", stat.S_IFBLK: "b", stat.S_IFIFO: "p"}
    kind = kinds.get(stat.S_IFMT(found.st_mode))
    if kind is None:
        raise ApplyError(f"{use['path']} is not a device")
    return LinuxDevice(
        use["target"],
        kind,
        os.major(found.st_rdev),
        os.minor(found.st_rdev),
        file_mode=stat.S_IMODE(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
    )


def _rlimit(name: str, limit: specs.Ulimit) -> Rlimit:
    def value(number: int) -> int:
        return _UNLIMITED if number < 0 else number

    return Rlimit(f"RLIMIT_{name.upper()}", value(limit.soft), value(limit.hard))


def _health(tree: Tree | None) -> Health | None:
    if tree is None:
        return None
    health = decode(specs.Health, tree)
    http: dict[str, Any] = {}
    if health.http:
        http = {"port": str(health.http.port), "path": health.http.path}
        if health.http.host:
            http["host"] = health.http.host
    return Health(
        exec=health.exec.command if health.exec else None,
        http=http or None,
        tcp=health.tcp.port if health.tcp else None,
        interval=health.interval,
        timeout=health.timeout,
        retries=health.retries,
        start_period=health.start_period,
        on_unhealthy=health.on_unhealthy,
    )


def _block_io(limits: specs.IoLimits | None) -> BlockIo | None:
    if limits is None:
        return None

    def throttles(rates: list[tuple[str, int | None]]) -> tuple[ThrottleDevice, ...]:
        found = []
        for path, rate in rates:
            if rate is not None:
                number = Path(path).stat().st_rdev
                found.append(ThrottleDevice(os.major(number), os.minor(number), rate))
        return tuple(found)

    devices = limits.devices
    return BlockIo(
        throttle_read_bps_device=throttles([(d.path, d.read_bps) for d in devices]),
        throttle_write_bps_device=throttles([(d.path, d.write_bps) for d in devices]),
        throttle_read_iops_device=throttles([(d.path, d.read_iops) for d in devices]),
        throttle_write_iops_device=throttles([(d.path, d.write_iops) for d in devices]),
    )
