"""Containers as the kernel has them, beside what the ledger says they should be."""

import signal
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from provider.drivers.container_preflight import check_actions
from provider.drivers.mark import instance_of
from provider.drivers.network import to_deviation
from provider.drivers.passive import PassiveObserver
from provider.drivers.publication import addresses_of, in_order, publications
from provider.engine.entry import ended_job, object_of_run
from provider.engine.ledger import Entry
from provider.engine.ports import Finding
from provider.model.ids import InstanceId, Kind, ResourceId
from provider.model.plan import Action, Verb
from provider.model.resource import Deviation, Observed
from provider.model.tree import Tree
from provider.planning.expand import is_ports
from runtime.container import inside
from runtime.container.config import ContainerConfig, list_configs
from runtime.container.containers import Containers
from runtime.container.folders import is_whole
from runtime.container.mounted import compare_mounts
from runtime.container.revival import lost_secrets
from runtime.container.state import ended_meanwhile, is_before_boot
from runtime.errors import NotFoundError
from runtime.network import observe as network_observe
from runtime.network.firewall import Publication
from runtime.root import Root
from runtime.supervisor.status import Status

_FIELD = {
    "memory.limit": "container.resources.memory",
    "memory.swap": "container.resources.memorySwap",
    "memory.reservation": "container.resources.memoryReservation",
    "cpu.quota": "container.resources.cpus",
    "cpu.period": "container.resources.cpus",
    "cpu.shares": "container.resources.cpuWeight",
    "unified.cpu.weight": "container.resources.cpuWeight",
    "cpuset.cpus": "container.resources.cpuset",
    "pids.limit": "container.resources.pids",
    "unified.io.weight": "container.resources.io.weight",
}
"""What runtime.cgroup calls a limit -> the field of the spec it comes from."""


_OTHER_UNITS = frozenset({"container.resources.cpus", "container.resources.cpuWeight"})
"""Fields whose values are not those of the kernel's file."""


class ContainerObserver(PassiveObserver):
    """Looks at Containers, Services (replicas and ports) and Jobs."""

    kinds = frozenset({Kind.CONTAINER, Kind.SERVICE, Kind.JOB})

    def __init__(self, root: Root) -> None:
        self._root = root
        self._containers = Containers(root)

    def observe(self, project: str, entries: Mapping[InstanceId, Entry]) -> Iterable[Observed]:
        """Yield every recorded instance with its root causes, then strays of the project."""
        configs = {config.id: config for config in list_configs(self._root, skip_damaged=True)}
        snapshot = network_observe.observe(self._root, inside=True)
        view = _View(self._containers, configs, snapshot)
        known: set[str] = set()
        for instance, entry in entries.items():
            known |= {entry.object_id, *entry.leftovers}
            if instance.resource.kind is Kind.JOB:
                yield view.job(entry)
            elif entry.effective is None:
                yield entry.observed()
            elif is_ports(instance):
                yield view.ports(entry, entry.effective)
            else:
                yield view.container(entry, entry.effective)
        strays = set()
        recorded = {instance.resource.owner for instance in entries}
        for config in view.configs:
            owner = instance_of(config.mark)
            if owner and owner.resource.project == project and config.id not in known:
                strays.add(config.id)
                yield view.stray(owner, config, recorded)
        yield from _unclaimed_ports(project, recorded, snapshot, strays)

    def preflight(self, actions: Sequence[Action]) -> Iterable[Finding]:
        """Check ports, bind sources and devices."""
        return check_actions(self._root, actions)


class _View:
    """One snapshot, asked instance by instance."""

    def __init__(
        self,
        containers: Containers,
        configs: Mapping[str, ContainerConfig],
        snapshot: network_observe.Snapshot,
    ) -> None:
        self._containers = containers
        self._snapshot = snapshot
        self._addresses = addresses_of(snapshot.records)
        self._statuses: dict[str, Status] = {}
        for name in configs:
            with suppress(NotFoundError):  # removed since, by another project's apply
                self._statuses[name] = containers.status(name)
        self._configs = {name: configs[name] for name in self._statuses}
        self._namespaces = inside.read_namespaces(
            (configs[s.id], s) for s in self._statuses.values() if s.state == "running"
        )

    @property
    def configs(self) -> Iterable[ContainerConfig]:
        """All containers there are, of whatever project."""
        return self._configs.values()

    def container(self, entry: Entry, effective: Tree) -> Observed:
        """Return one container with what is wrong with it."""
        config = self._configs.get(entry.object_id)
        whole = config is not None and is_whole(self._containers.root, config.id)
        if config is None or not whole:
            lacks = "gone" if config is None else "without its writable layer"
            cause = f"container {entry.object_id} is {lacks}"
            lost = self._lost_ports(entry.object_id) if config is None else ()
            gone = Deviation("kernel.container", "present", "missing", cause, lost, "replace")
            facts = self.status_of(config) if config else {}
            return entry.observed(deviations=(gone,), status=facts | self._publishes(entry))
        status = self._statuses[config.id]
        deviations = list(self._state(effective, config, status, attempted=bool(entry.attempt)))
        if status.state == "running" and not deviations:
            deviations += self._limits(config, effective)
            deviations += self._mounts(config, status)
            deviations += self._inside(config, status)
            # What is dying is not where it was: that is no cause.
            now = ended_meanwhile(self._containers.root, status) if deviations else status
            if now is not status:
                self._statuses[config.id] = now or status
                attempted = bool(entry.attempt)
                deviations = (
                    list(self._state(effective, config, now, attempted=attempted)) if now else []
                )
        if not any(d.path == "state" for d in deviations):
            if not status.ended:  # what has done its work needs none, nor a namespace
                deviations += self._links(config)
            if "publish" in effective:  # a replica's ports are the Service's
                deviations += self._published(entry, effective, [config.id])
        facts = self.status_of(config) | self._publishes(entry)
        return entry.observed(deviations=tuple(deviations), status=facts)

    def ports(self, entry: Entry, effective: Tree) -> Observed:
        """Return the published ports of a Service."""
        backends = [backend["id"] for backend in effective["backends"]]
        deviations = tuple(self._published(entry, effective, backends))
        ready = sum(1 for b in backends if self._is_ready(b))
        status = {"replicas": len(backends), "ready": ready, **self._publishes(entry)}
        return entry.observed(deviations=deviations, status=status)

    def job(self, entry: Entry) -> Observed:
        """Return a Job: what it did is in its record, unless its apply was interrupted."""
        attempt = entry.attempt
        if attempt and attempt.verb == Verb.RUN and not attempt.error:
            return self._interrupted_job(entry)
        config = self._configs.get(entry.object_id)
        status = self.status_of(config) if config else {}
        return entry.observed(status=status | {"result": entry.record.get("result")})

    def stray(
        self, instance: InstanceId, config: ContainerConfig, recorded: Collection[str]
    ) -> Observed:
        """Return a container that is in no ledger, and what goes with it.

        *recorded* are the owners of ports that the ledger knows.
        """
        address = self._addresses.get(config.id)
        status = self.status_of(config) | {"effects": list(self._lost_ports(config.id))}
        status["publishes"] = [
            _port(owner, port)
            for owner, published in self._snapshot.publications.items()
            if owner.startswith(f"{instance.resource.project}/") and owner not in recorded
            for port in published
            if any(address == ip for ip, _ in port.backends)
        ]
        return Observed(instance, config.id, None, status=status)

    def _interrupted_job(self, entry: Entry) -> Observed:
        """Ask the container nobody waited for how the Job ended."""
        config = self._configs.get(object_of_run(entry, self._configs))
        status = self._statuses[config.id] if config else None
        if config is None or status is None:
            return entry.observed(status={"started": False})
        if status.state == "created" and not is_before_boot(config.created_at):
            return entry.observed(status={"started": False})
        if not status.ended or status.exit_code is None:
            return entry.observed(status=self.status_of(config))
        how, facts = how_it_ended(status), self.status_of(config)
        return ended_job(entry, config.id, status.exit_code, how, facts)

    def status_of(self, config: ContainerConfig) -> Tree:
        """Return facts for people and reports."""
        status = self._statuses[config.id]
        return {
            "container": config.id,
            "name": config.name,
            "state": status.state,
            "pid": status.pid or None,
            "health": status.health,
            "exitCode": status.exit_code,
            "restarts": status.restarts,
            "stopRequested": status.stop_requested and not status.resumes,
            "startedAt": status.started_at,
            "oomKilled": status.oom_killed,
            "address": self._addresses.get(config.id),
            "image": config.image,
        }

    def _publishes(self, entry: Entry) -> Tree:
        """Return the ports that are the resource's now, for who takes them over."""
        if entry.id.index >= 0:
            return {}
        owner = entry.id.resource.owner
        known = self._snapshot.publications.get(owner, ())
        return {"publishes": [_port(owner, port) for port in known]}

    def _is_ready(self, container_id: str) -> bool:
        status = self._statuses.get(container_id)
        return bool(status and status.state == "running" and status.health in ("none", "healthy"))

    def _state(
        self, effective: Tree, config: ContainerConfig, status: Status, *, attempted: bool
    ) -> Iterable[Deviation]:
        wanted = effective["state"]
        running = status.state in ("running", "restarting")
        if wanted == "running" and not running and not is_done(status, effective):
            cause, lost = how_it_ended(status), self._lost_ports(status.id)
            if status.resumes or (status.state == "created" and is_before_boot(config.created_at)):
                cause = "it ended with the host, or by `bayplan agent --shutdown`"
                if lost_secrets(self._containers.root, config):
                    cause += "; its secrets were on no disk, and are given again by an apply"
            elif attempted and status.stop_requested:
                cause = "it was stopped, for its successor or by hand"
            yield Deviation("state", "running", status.state, cause, lost, "restart")
        elif wanted == "running" and status.state == "restarting" and status.error:
            cause, lost = (
                f"it waits to be started again: {status.error}",
                self._lost_ports(status.id),
            )
            yield Deviation("state", "running", "restarting", cause, lost, "restart")
        if wanted == "stopped" and running:
            yield Deviation("state", "stopped", "running", "it was started", (), "restart")

    def _lost_ports(self, container_id: str) -> tuple[str, ...]:
        """Return, in words, which published ports suffer without the container."""
        address = self._addresses.get(container_id)
        return network_observe.lost_ports(self._snapshot.publications, {address or ""})[1]

    def _limits(self, config: ContainerConfig, effective: Tree) -> Iterable[Deviation]:
        group = self._containers.cgroup(config.id)
        for found in group.deviations(config.spec.linux.resources):
            if found.field == "group":
                cause = f"cgroup {found.file} is gone"
                yield Deviation("kernel.cgroup", "present", "missing", cause, (), "restart")
                continue
            path = _FIELD.get(found.field, f"kernel.cgroup.{found.field}")
            cause = f"{found.file} was changed by hand"
            expected: object = found.expected
            actual: object = found.actual
            if path in _OTHER_UNITS:
                expected = effective["container"]["resources"][path.rpartition(".")[2]]
                actual = f"{found.actual} in {Path(found.file).name}"
            yield Deviation(path, expected, actual, cause)

    def _mounts(self, config: ContainerConfig, status: Status) -> Iterable[Deviation]:
        found = compare_mounts(config, status.pid, self._containers.hierarchy)
        yield from map(_to_deviation, found)

    def _inside(self, config: ContainerConfig, status: Status) -> Iterable[Deviation]:
        values = self._namespaces.get(config.id, {})
        yield from map(_to_deviation, inside.compare_namespaces(config, values))
        group = self._containers.cgroup(config.id)
        yield from map(_to_deviation, inside.compare_group(status, group))

    def _links(self, config: ContainerConfig) -> Iterable[Deviation]:
        for found in self._snapshot.deviations:
            if found.container == config.id and not (
                found.code in network_observe.INSIDE and inside.owns_network(config)
            ):
                yield to_deviation(found)

    def _published(
        self, entry: Entry, effective: Tree, containers: Sequence[str]
    ) -> Iterable[Deviation]:
        owner = entry.id.resource.owner
        # That a container is gone is another line.
        held = set(self._addresses.values())
        recorded = in_order(
            replace(p, backends=tuple(backend for backend in p.backends if backend[0] in held))
            for p in self._snapshot.publications.get(owner, ())
        )
        wanted = publications(effective["publish"], containers, self._addresses)
        if recorded != wanted:
            yield Deviation(
                "kernel.publish",
                list(map(_led, wanted)),
                list(map(_led, recorded)),
                "the published ports are not those that were applied",
            )
        for found in self._snapshot.deviations:
            if found.owner == owner and not found.container:
                yield to_deviation(found)


def _unclaimed_ports(
    project: str,
    recorded: Collection[str],
    snapshot: network_observe.Snapshot,
    strays: Collection[str],
) -> Iterable[Observed]:
    """Yield what the project publishes for owners that are not *recorded* in its ledger.

    Ports of *strays* alone go with them.
    """
    addresses = addresses_of(snapshot.records)
    leaving = {addresses[container] for container in strays if container in addresses}
    for owner, published in snapshot.publications.items():
        mine, _, name = owner.rpartition("/")
        backends = {address for p in published for address, _ in p.backends}
        if backends and backends <= leaving:
            continue
        if mine.startswith(f"{project}/") and owner not in recorded:
            resource = ResourceId(project, Kind.SERVICE, name)
            status = {"publishes": [_port(owner, port) for port in published]}
            yield Observed(InstanceId(resource), owner, None, status=status)


def _port(owner: str, port: Publication) -> Tree:
    """Return a published port as *owner*'s, for who takes it over."""
    return {"ip": port.ip, "port": port.port, "protocol": port.protocol, "owner": owner}


def _led(port: Publication) -> str:
    """Return a published port with where it leads to: what deviates may be no more than that."""
    backends = ", ".join(f"{ip}:{target}" for ip, target in port.backends) or "nobody"
    return f"{port.ip}:{port.port}/{port.protocol} to {backends}"


def _to_deviation(found: inside.Difference) -> Deviation:
    consequence = "live" if found.live else "restart"
    path = f"kernel.{found.what}"
    return Deviation(path, found.wanted, found.actual, found.cause, (), consequence)


def is_done(status: Status, effective: Tree) -> bool:
    """Tell whether a container has ended well and may: it has done what it was for.

    That is a Container with ``restart: on-failure`` of which neither a health check nor a
    published port says that it serves. Replicas of a Service always do.
    """
    container = effective["container"]
    may_end = (
        container["restart"]["policy"] == "on-failure"
        and container["health"] is None
        and effective.get("publish") == []
    )
    ended_well = status.ended and status.exit_code == 0 and not status.stop_requested
    return may_end and ended_well


def how_it_ended(status: Status) -> str:
    """Return, in words, why a container does not run."""
    if status.state == "dead":
        return f"it could not be started: {status.error}"
    words = _how_its_process_ended(status)
    return f"{words}; {status.error}" if status.error else words


def _how_its_process_ended(status: Status) -> str:
    if status.state == "created":
        return "it was never started"
    if status.oom_killed:
        return "it was killed for its memory"
    if status.stop_requested:
        return "it was stopped by hand"
    if status.signal:
        return f"it was killed by {signal.Signals(status.signal).name}"
    if status.exit_code is None:
        return "it is gone" if status.error else "it is gone, nobody knows how it ended"
    return f"it ended with exit code {status.exit_code}"
