"""Changes of containers made by hand, while they run."""

from contextlib import suppress
from dataclasses import replace

from provider.drivers.container_config import CPU_PERIOD_US, dns_names, restart_of
from provider.drivers.single import check_name
from provider.errors import ProviderError, UsageError
from provider.model import specs
from provider.model.ids import InstanceId, Kind, ResourceId
from runtime.container.config import ContainerConfig, changing, read_config, write_config
from runtime.container.containers import Containers
from runtime.container.making import making
from runtime.container.summary import summaries
from runtime.container.update import update
from runtime.errors import NotFoundError
from runtime.network import attachment
from runtime.network.hostlock import host_lock
from runtime.record import dataclass
from runtime.root import Root
from runtime.spec import Cpu, Memory, Pids


def rename_single(root: Root, container_id: str, name: str) -> None:
    """Give a container another name, on its networks too. Its host name stays.

    Raises:
        UsageError: that is no name.
        ProviderError: the name is taken.
        ContainerError: the runtime refused.
    """
    check_name(name)
    with making(root), changing(root, container_id), host_lock(root, f"rename {container_id}"):
        if any(known.name == name and known.id != container_id for known in summaries(root)):
            raise ProviderError(f"the name {name} is taken", hint="`bayplan ps -a` lists them")
        before = read_config(root, container_id)
        former = dns_names(_instance(before.name), ())
        joins = tuple(
            replace(
                join,
                names=dns_names(_instance(name), [n for n in join.names if n not in former]),
            )
            for join in before.joins
        )
        for join in joins:
            # One without an address (it ended, or never started) gets its names with one.
            with suppress(NotFoundError):
                attachment.set_names(root, join.network, container_id, join.names)
        # Last: killed before, it is found by its former name, and the same again finishes it.
        write_config(root, replace(before, name=name, joins=joins))


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """New limits; what is None stays. Sizes in bytes; -1 is no limit."""

    memory: int | None = None
    memory_swap: int | None = None
    """Memory and swap together."""
    memory_reservation: int | None = None
    cpus: float | None = None
    cpuset: str | None = None
    pids: int | None = None
    restart: specs.Restart | None = None


def update_single(root: Root, container_id: str, wanted: Update) -> tuple[str, ...]:
    """Change limits and restart policy of a container, while it runs too; return warnings.

    Raises:
        UsageError: memory and swap together would be less than memory.
        ContainerError: the runtime or the kernel refused; StateError: more is in use.
    """
    with changing(root, container_id):
        return update(Containers(root), _changed(read_config(root, container_id), wanted))


def _changed(config: ContainerConfig, wanted: Update) -> ContainerConfig:
    before = config.spec.linux.resources
    resources = replace(
        before,
        memory=_memory(before.memory or Memory(), wanted),
        cpu=_cpu(before.cpu or Cpu(), wanted),
        pids=before.pids if wanted.pids is None else Pids(wanted.pids),
    )
    spec = replace(config.spec, linux=replace(config.spec.linux, resources=resources))
    if config.auto_remove and wanted.restart and wanted.restart.policy != "no":
        raise UsageError("--rm and --restart do not go together")
    restart = config.restart if wanted.restart is None else restart_of(wanted.restart)
    return replace(config, spec=spec, restart=restart)


def _memory(before: Memory, wanted: Update) -> Memory:
    limit = before.limit if wanted.memory is None else wanted.memory
    swap = before.swap if wanted.memory_swap is None else wanted.memory_swap
    if wanted.memory_swap is None and None not in (before.limit, before.swap, limit) and limit:
        # As much swap as before.
        swap = (before.swap or 0) - (before.limit or 0) + limit if limit > 0 else -1
    if swap is not None and swap >= 0 and (limit is None or limit < 0 or swap < limit):
        raise UsageError(
            "--memory-swap is memory and swap together: not less than --memory, and none without",
            hint="say both; -1 is no limit",
        )
    reservation = wanted.memory_reservation
    return Memory(limit, before.reservation if reservation is None else reservation, swap)


def _cpu(before: Cpu, wanted: Update) -> Cpu:
    if wanted.cpus is not None:
        quota = round(wanted.cpus * CPU_PERIOD_US)
        before = replace(before, quota=quota, period=CPU_PERIOD_US)
    return before if wanted.cpuset is None else replace(before, cpus=wanted.cpuset)


def _instance(name: str) -> InstanceId:
    return InstanceId(ResourceId("run", Kind.CONTAINER, name))
