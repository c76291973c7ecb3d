"""Containers as the kernel has them, beside what the ledger says they should be."""

import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from provider.drivers.container_preflight import check_actions
from provider.drivers.mark import instance_of
from provider.drivers.network import to_deviation
from provider.drivers.passive import PassiveObserver
from provider.drivers.publication import addresses_of, in_order, owner_of, publications
from provider.engine.ledger import Entry
from provider.engine.ports import Finding
from provider.model.ids import InstanceId, Kind, ResourceId
from provider.model.plan import Action, Verb
from provider.model.resource import Attempt, Deviation, Observed
from provider.model.tree import Tree
from runtime.container.config import ContainerConfig, list_configs
from runtime.container.containers import Containers
from runtime.errors import NotFoundError
from runtime.kernel.procfs import read_mountinfo
from runtime.network import observe as network_observe
from runtime.root import Root
from runtime.rootfs.resolve import open_in_root
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
    "io.weight": "container.resources.io.weight",
}
"""What runtime.cgroup calls a limit -> the field of the spec it comes from."""


class ContainerObserver(PassiveObserver):
    """Looks at Containers, Services (replicas and ports) and Jobs."""

    kinds = frozenset({Kind.CONTAINER, Kind.SERVICE, Kind.JOB})

    def __init__(self, root: Root) -> None:
        self._root = root
        self._containers = Containers(root)

    def observe(self, project: str, entries: Mapping[InstanceId, Entry]) -> Iterable[Observed]:
        """Yield every recorded instance with its root causes, then strays of the project."""
        configs = {config.id: config for config in list_configs(self._root)}
        snapshot = network_observe.observe(self._root)
        view = _View(self._containers, configs, snapshot)
        known: set[str] = set()
        for instance, entry in entries.items():
            known |= {entry.object_id, *entry.leftovers}
            if instance.resource.kind is Kind.JOB:
                yield view.job(entry)
            elif entry.effective is None:
                yield entry.observed()
            elif instance.resource.kind is Kind.SERVICE and instance.index < 0:
                yield view.ports(entry, entry.effective)
            else:
                yield view.container(entry, entry.effective)
        yield from _unclaimed_ports(project, entries, snapshot)
        for config in configs.values():
            owner = instance_of(config.mark)
            if owner and owner.resource.project == project and config.id not in known:
                yield Observed(owner, config.id, None, status=view.status_of(config))

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
        self._configs = configs
        self._snapshot = snapshot
        self._addresses = addresses_of(snapshot.records)

    def container(self, entry: Entry, effective: Tree) -> Observed:
        """Return one container with what is wrong with it."""
        config = self._configs.get(entry.object_id)
        if config is None:
            cause = f"container {entry.object_id} is gone"
            gone = Deviation("kernel.container", "present", "missing", cause, (), "replace")
            return entry.observed(deviations=(gone,))
        status = self._containers.status(config.id)
        deviations = list(self._state(effective["state"], status, effective["container"]))
        if status.state == "running" and not deviations:
            deviations += self._limits(config, effective)
            deviations += self._mounts(config, status)
        if not any(d.path == "state" for d in deviations):
            deviations += self._links(config.id)
            if "publish" in effective:  # a replica's ports are the Service's
                deviations += self._published(entry, effective, [config.id])
        return entry.observed(deviations=tuple(deviations), status=self.status_of(config))

    def ports(self, entry: Entry, effective: Tree) -> Observed:
        """Return the published ports of a Service."""
        backends = [backend["id"] for backend in effective["backends"]]
        deviations = tuple(self._published(entry, effective, backends))
        ready = sum(1 for b in backends if self._is_ready(b))
        status: Tree = {"replicas": len(backends), "ready": ready}
        return entry.observed(deviations=deviations, status=status)

    def job(self, entry: Entry) -> Observed:
        """Return a Job: what it did is in its record, unless its apply was interrupted."""
        attempt = entry.attempt
        if attempt and attempt.verb == Verb.RUN and not attempt.error:
            return self._interrupted_job(entry, attempt)
        config = self._configs.get(entry.object_id)
        status = self.status_of(config) if config else {}
        return entry.observed(status=status | {"result": entry.record.get("result")})

    def _interrupted_job(self, entry: Entry, attempt: Attempt) -> Observed:
        """Ask the container nobody waited for how the Job ended."""
        made = [i for i in (*entry.leftovers, entry.object_id) if i in self._configs]
        config = self._configs[made[0]] if made else None
        status = self._containers.status(config.id) if config else None
        if config is None or status is None or status.state == "created":
            return entry.observed(status={"started": False})
        if not status.ended or status.exit_code is None:
            return entry.observed(status=self.status_of(config))
        if status.exit_code:
            failed = replace(attempt, error=how_it_ended(status))
            return replace(entry.observed(status=self.status_of(config)), attempt=failed)
        result = {"state": "succeeded", "exitCode": 0, "attempts": 1}
        return replace(
            entry.observed(status=self.status_of(config), record={"result": result}),
            object_id=config.id,
            effective=attempt.intended,
            attempt=None,
            leftovers=tuple(i for i in entry.leftovers if i != config.id),
        )

    def status_of(self, config: ContainerConfig) -> Tree:
        """Return facts for people and reports."""
        status = self._containers.status(config.id)
        return {
            "container": config.id,
            "name": config.name,
            "state": status.state,
            "pid": status.pid or None,
            "health": status.health,
            "exitCode": status.exit_code,
            "restarts": status.restarts,
            "startedAt": status.started_at,
            "oomKilled": status.oom_killed,
            "address": self._addresses.get(config.id),
            "image": config.image,
        }

    def _is_ready(self, container_id: str) -> bool:
        with suppress(NotFoundError):
            status = self._containers.status(container_id)
            return status.state == "running" and status.health in ("none", "healthy")
        return False

    def _state(self, wanted: str, status: Status, container: Tree) -> Iterable[Deviation]:
        running = status.state in ("running", "restarting")
        if wanted == "running" and not running:
            finished = container["restart"]["policy"] == "on-failure" and status.exit_code == 0
            if not finished:
                yield Deviation(
                    "state", "running", status.state, how_it_ended(status), (), "restart"
                )
        if wanted == "stopped" and running:
            yield Deviation("state", "stopped", "running", "it was started", (), "restart")

    def _limits(self, config: ContainerConfig, effective: Tree) -> Iterable[Deviation]:
        group = self._containers.cgroup(config.id)
        for found in group.deviations(config.spec.linux.resources):
            if found.field == "group":
                cause = f"cgroup {found.file} is gone"
                yield Deviation("kernel.cgroup", "present", "missing", cause, (), "restart")
                continue
            path = _FIELD.get(found.field, f"kernel.cgroup.{found.field}")
            cause = f"{found.file} was changed by hand"
            yield Deviation(path, found.expected, found.actual, cause)

    def _mounts(self, config: ContainerConfig, status: Status) -> Iterable[Deviation]:
        mounted = {m.mount_point for m in read_mountinfo(status.pid) or ()}
        if not mounted:
            return
        for mount in config.spec.mounts:
            target = mount.destination.rstrip("/") or "/"
            if target not in mounted and _is_gone(target, mounted, status.pid):
                yield Deviation(
                    f"kernel.mounts[{target}]",
                    "mounted",
                    "missing",
                    f"{target} was unmounted inside the container",
                    (),
                    "restart",
                )

    def _links(self, container_id: str) -> Iterable[Deviation]:
        for found in self._snapshot.deviations:
            if found.container == container_id:
                yield to_deviation(found)

    def _published(
        self, entry: Entry, effective: Tree, containers: Sequence[str]
    ) -> Iterable[Deviation]:
        owner = owner_of(entry.id.resource)
        recorded = in_order(self._snapshot.publications.get(owner, ()))
        wanted = publications(effective["publish"], containers, self._addresses)
        if recorded != wanted:
            yield Deviation(
                "kernel.publish",
                [f"{p.ip}:{p.port}/{p.protocol}" for p in wanted],
                [f"{p.ip}:{p.port}/{p.protocol}" for p in recorded],
                "the published ports are not those that were applied",
            )
        for found in self._snapshot.deviations:
            if found.owner == owner and not found.container:
                yield to_deviation(found)


def _unclaimed_ports(
    project: str, entries: Mapping[InstanceId, Entry], snapshot: network_observe.Snapshot
) -> Iterable[Observed]:
    """Yield what the project publishes for resources that are in no ledger."""
    recorded = {owner_of(instance.resource) for instance in entries}
    for owner in snapshot.publications:
        mine, _, name = owner.rpartition("/")
        if mine.startswith(f"{project}/") and owner not in recorded:
            resource = ResourceId(project, Kind.SERVICE, name)
            yield Observed(InstanceId(resource), owner, None)


def _is_gone(target: str, mounted: set[str], pid: int) -> bool:
    """Tell whether a mount is really gone: a link in the image may have led it elsewhere."""
    try:
        root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False  # it ended just now
    try:
        found = open_in_root(root, target)
        try:
            # As seen from the container's root, which is the root of its mount namespace.
            return os.readlink(f"/proc/self/fd/{found}") not in mounted
        finally:
            os.close(found)
    except OSError:
        return True
    finally:
        os.close(root)


def how_it_ended(status: Status) -> str:
    """Return, in words, why a container does not run."""
    if status.state == "created":
        return "it was never started"
    if status.oom_killed:
        return "it was killed for its memory"
    if status.error:
        return f"it could not be started: {status.error}"
    if status.stop_requested:
        return "it was stopped by hand"
    if status.signal:
        return f"it was killed by {signal.Signals(status.signal).name}"
    if status.exit_code is None:
        return "it is gone, nobody knows how it ended"
    return f"it ended with exit code {status.exit_code}"
