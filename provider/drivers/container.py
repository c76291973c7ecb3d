"""Containers, Services and Jobs on this host: made, changed live, replaced, awaited, removed.

Published ports are committed once, at the end of an apply (``finish``), for all instances
together; only then are the containers that were replaced taken away, so that traffic moves from
old to new in one step.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from provider.drivers import await_container
from provider.drivers.container_config import Site, make_config
from provider.drivers.container_files import environment_file, write_container_files
from provider.drivers.container_observe import ContainerObserver
from provider.drivers.publication import addresses_of, in_order, owner_of, publications
from provider.engine.ports import Context, Outcome
from provider.errors import ApplyError
from provider.model.ids import InstanceId, Kind
from provider.model.plan import Action, Consequence, Verb
from provider.model.resource import Condition
from provider.model.tree import Tree
from runtime.container import volume
from runtime.container.config import read_config
from runtime.errors import ContainerError, KernelError, NotFoundError
from runtime.image.store import ImageStore
from runtime.network import firewall
from runtime.network import observe as network_observe
from runtime.root import Root
from runtime.rootfs.passwd import resolve_user

_REPLACING = (Consequence.REPLACE, Consequence.DATA_LOSS)


class ContainerDriver(ContainerObserver):
    """Acts on Containers, Services and Jobs."""

    def __init__(self, root: Root, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(root)
        self._store = ImageStore(root)
        self._clock = clock
        self._lock = threading.Lock()
        self._ports: dict[InstanceId, tuple[Tree, str]] = {}
        self._withdrawn: dict[InstanceId, str] = {}
        self._replaced: list[str] = []

    def prepare(self, context: Context) -> None:
        """Nothing is shared but what ``finish`` does."""

    def perform(self, action: Action, context: Context) -> Outcome:
        """Bring one instance to what is wanted; see ``Driver.perform``."""
        try:
            if action.id.resource.kind is Kind.SERVICE and action.id.index < 0:
                return self._perform_ports(action)
            return self._perform_container(action, context)
        except (ContainerError, KernelError) as error:
            raise ApplyError(f"{action.id}: {error}") from error

    def settle(self, action: Action, context: Context, deadline: float) -> Outcome | None:
        """Wait until healthy, running long enough, or completed."""
        if action.id.resource.kind is Kind.SERVICE and action.id.index < 0:
            return None
        after = action.after or {}
        found = context.find(action.id)
        object_id = context.object_id or (found.object_id if found else action.object_id)
        if action.id.resource.kind is Kind.JOB:
            result = await_container.completed(
                self._containers, action.id, object_id, after, context.stopping, deadline
            )
            return Outcome(object_id, after, record={"result": result})
        if after["state"] == "running":
            await_container.settled(
                self._containers,
                action.id,
                object_id,
                after["update"]["healthyFor"],
                context.stopping,
                deadline,
            )
        return None

    def await_condition(
        self, instance: InstanceId, condition: Condition, context: Context, deadline: float
    ) -> None:
        """Wait for another instance; all that was settled is there at once."""
        found = context.find(instance)
        if found is None or condition is Condition.STARTED:
            return
        if instance.resource.kind is Kind.SERVICE and instance.index < 0:
            return
        if condition is Condition.COMPLETED:
            result = found.record.get("result") or {}
            if result.get("state") != "succeeded":
                raise ApplyError(f"{instance} has not completed")
            return
        healthy_for = (found.effective or {})["update"]["healthyFor"]
        await_container.settled(
            self._containers, instance, found.object_id, healthy_for, context.stopping, deadline
        )

    def finish(self, context: Context) -> Mapping[InstanceId, ApplyError]:
        """Publish ports in one commit, then remove what was replaced."""
        failures = self._commit_ports(context)
        for object_id in self._replaced:
            self._containers.remove(object_id, force=True)
        self._replaced.clear()
        return failures

    def _perform_ports(self, action: Action) -> Outcome:
        owner = owner_of(action.id.resource)
        if action.renamed_from:
            self._withdrawn[action.id] = owner_of(action.renamed_from.resource)
        if action.verb is Verb.DELETE:
            self._withdrawn[action.id] = owner
            return Outcome("", {})
        after = action.after or {}
        self._ports[action.id] = (after, owner)
        return Outcome(owner, after)

    def _perform_container(self, action: Action, context: Context) -> Outcome:
        for leftover in action.leftovers:
            self._containers.remove(leftover, force=True)
        if action.verb is Verb.DELETE:
            if action.id.resource.kind is Kind.CONTAINER:
                # Now and not in finish: the address goes back with the container.
                firewall.unpublish(self._root, owner_of(action.id.resource))
            if action.object_id:
                self._containers.remove(action.object_id, force=True)
            return Outcome("", {})
        after = action.after or {}
        if action.verb is Verb.UPDATE and action.consequence not in _REPLACING:
            object_id = action.object_id
            self._update(action, after, context)
        else:
            object_id = context.object_id
            self._make(action, after, object_id, context)
        if action.id.resource.kind is Kind.CONTAINER:
            with self._lock:
                self._ports[action.id] = (after, object_id)
                if action.renamed_from:
                    self._withdrawn[action.id] = owner_of(action.renamed_from.resource)
        return Outcome(object_id, after)

    def _make(self, action: Action, after: Tree, object_id: str, context: Context) -> None:
        """Make a new container, beside or in place of the one that is there."""
        job = action.id.resource.kind is Kind.JOB
        old = action.object_id if action.object_id != object_id else ""
        stop_first = job or after["update"]["order"] == "stop-first"
        if old and job:
            self._containers.remove(old, force=True)
        elif old and stop_first:
            with suppress(NotFoundError):
                self._containers.stop(old)
        self._create(action.id, after, object_id, context)
        if job or after["state"] == "running":
            for warning in self._containers.start(object_id):
                context.progress(warning)
        if old and not job:
            with self._lock:
                self._replaced.append(old)

    def _create(self, instance: InstanceId, after: Tree, object_id: str, context: Context) -> None:
        container: Tree = after["container"]
        layers = self._store.layers(container["image"]["digest"])
        for use in container["volumes"]:
            self._prepare_volume(use, layers)
        account = resolve_user(layers, container["user"])
        groups = [resolve_user(layers, f"0:{group}").user.gid for group in container["groups"]]
        gids = tuple(dict.fromkeys([*account.user.additional_gids, *groups]))
        site = Site(
            root=self._root,
            container_id=object_id,
            layers=layers,
            user=replace(account.user, additional_gids=gids),
            home=account.home,
            files=write_container_files(self._root, object_id, container, context),
            created_at=self._clock(),
        )
        config = make_config(instance, after, site)
        environment = environment_file(self._root, object_id)
        if environment.exists():
            config = replace(config, environment=str(environment))
        self._containers.create(config)

    def _prepare_volume(self, use: Tree, layers: tuple[str, ...]) -> None:
        if use["bind"] and use["create"]:
            os.makedirs(use["bind"], exist_ok=True)
        elif use["bind"] and not Path(use["bind"]).exists():
            raise ApplyError(
                f"bind source {use['bind']} does not exist", hint="make it, or say create: true"
            )
        elif use["volume"] and use["copy"]:
            found = volume.read_volume(self._root, use["id"])
            volume.populate(self._root, found, layers, use["target"])

    def _update(self, action: Action, after: Tree, context: Context) -> None:
        """Change a container in place, and start it anew where that is asked for."""
        before = read_config(self._root, action.object_id)
        site = Site(
            root=self._root,
            container_id=before.id,
            layers=before.layers,
            user=before.spec.process.user,
            home=_home(before.spec.process.env),
            created_at=before.created_at,
        )
        wanted = make_config(action.id, after, site)
        # Mounts of files are as they were: their content is not live.
        config = replace(
            wanted,
            spec=replace(wanted.spec, mounts=before.spec.mounts),
            environment=before.environment,
        )
        if action.consequence is Consequence.RESTART:
            self._containers.stop(before.id)
        warnings = list(self._containers.update(config))
        if action.consequence is Consequence.RESTART and after["state"] == "running":
            warnings += self._containers.start(before.id)
        network_observe.repair(self._root, containers=frozenset({before.id}))
        for warning in warnings:
            context.progress(warning)

    def _commit_ports(self, context: Context) -> dict[InstanceId, ApplyError]:
        if not self._ports and not self._withdrawn:
            return {}
        failures: dict[InstanceId, ApplyError] = {}
        addresses = addresses_of(network_observe.observe(self._root).records)
        current = firewall.publications(self._root)
        wanted = {owner: () for owner in self._withdrawn.values()} | {
            owner_of(instance.resource): publications(
                tree["publish"],
                [b["id"] for b in tree["backends"]] if "backends" in tree else [object_id],
                addresses,
            )
            for instance, (tree, object_id) in self._ports.items()
        }
        changed = {o: ports for o, ports in wanted.items() if ports != in_order(current.get(o, ()))}
        try:
            if changed:
                with firewall.commit(self._root) as change:
                    for owner, ports in changed.items():
                        change.publish(owner, ports) if ports else change.unpublish(owner)
            network_observe.repair(self._root, containers=frozenset())
        except ContainerError as error:
            concerned = [*self._ports, *self._withdrawn]
            failures = {i: ApplyError(f"{i}: publishing ports: {error}") for i in concerned}
        self._ports.clear()
        self._withdrawn.clear()
        return failures


def _home(env: tuple[str, ...]) -> str:
    return next((v.removeprefix("HOME=") for v in env if v.startswith("HOME=")), "/")
