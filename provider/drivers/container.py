"""Containers, Services and Jobs on this host: made, changed live, replaced, awaited, removed.

What is replaced stays, and serves, until what takes its place has proven itself: only then
(``settle``) does published traffic move over, in one step, and the old container go. What does
not prove itself is left beside the old one, which goes on serving; the next apply cleans up.
"""

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from provider.drivers import await_container
from provider.drivers.container_config import Site, make_config
from provider.drivers.container_files import environment_file, write_container_files
from provider.drivers.container_observe import ContainerObserver
from provider.drivers.failing import failing
from provider.drivers.passive import PassiveDriver
from provider.drivers.publication import (
    addresses_of,
    handed_over,
    in_order,
    publications,
    with_backend,
)
from provider.engine.ports import Context, Outcome
from provider.engine.step import settles
from provider.errors import ApplyError
from provider.model.ids import InstanceId, Kind
from provider.model.plan import Action, Consequence, Verb
from provider.model.resource import Condition
from provider.model.tree import Tree
from provider.planning.expand import is_ports
from runtime.container import inside, revival, traffic, volume
from runtime.container.config import read_config
from runtime.container.making import making
from runtime.errors import NotFoundError
from runtime.image.store import ImageStore
from runtime.network import attachment, firewall, store
from runtime.network import observe as network_observe
from runtime.network.firewall import Publication
from runtime.root import Root
from runtime.rootfs.passwd import resolve_user

_REPLACING = (Consequence.REPLACE, Consequence.DATA_LOSS)


class ContainerDriver(ContainerObserver, PassiveDriver):
    """Acts on Containers, Services and Jobs."""

    def __init__(self, root: Root, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(root)
        self._store = ImageStore(root)
        self._clock = clock

    def perform(self, action: Action, context: Context) -> Outcome:
        """Bring one instance to what is wanted; see ``Driver.perform``."""
        with failing():
            if is_ports(action.id):
                return self._perform_ports(action, context)
            return self._perform_container(action, context)

    def settle(self, action: Action, context: Context, deadline: float) -> Outcome | None:
        """Wait until healthy, running long enough, or completed; then let the old one go."""
        with failing():
            return self._settle(action, context, deadline)

    def _settle(self, action: Action, context: Context, deadline: float) -> Outcome | None:
        after = action.after or {}
        object_id = context.object_id or action.object_id
        if action.id.resource.kind is Kind.JOB:
            result = await_container.completed(
                self._containers, object_id, after, context.stopping, deadline
            )
            attachment.release(self._root, object_id)
            return Outcome(object_id, after, record={"result": result})
        await_container.settled(
            self._containers,
            object_id,
            after,
            context.stopping,
            deadline,
        )
        self._hand_over(action, object_id, context)
        return None

    def await_condition(
        self, instance: InstanceId, condition: Condition, context: Context, deadline: float
    ) -> None:
        """Wait for another instance; all that was settled is there at once."""
        found = context.find(instance)
        if found is None or condition is Condition.STARTED:
            return
        if is_ports(instance):
            return
        if condition is Condition.COMPLETED:
            result = found.record.get("result") or {}
            if result.get("state") != "succeeded":
                raise ApplyError("it has not completed")
            return
        with failing():
            await_container.settled(
                self._containers, found.object_id, found.effective or {}, context.stopping, deadline
            )

    def revive(self, action: Action, context: Context, deadline: float) -> Outcome:
        """Start again what ran before the host was started; see ``Reviver.revive``."""
        with failing():
            serving = [name for name in action.leftovers if self._served(name)]
            started = serving or [action.object_id]
            for container_id in started:
                config = read_config(self._root, container_id)
                if revival.lost_secrets(self._root, config):
                    raise ApplyError(
                        "it uses secrets, whose values are on no disk:"
                        " `bayplan apply` its manifests"
                    )
                revival.await_sources(
                    self._root, config, deadline=deadline, stopping=context.stopping
                )
                for warning in self._start(action.after or {}, container_id, context):
                    context.progress(warning)
            return Outcome(started[0], action.after or {})

    def prove(self, action: Action, context: Context, deadline: float) -> None:
        """Wait for what was revived to be healthy; see ``Reviver.prove``."""
        after = action.after or {}
        with failing():
            await_container.settled(
                self._containers, context.object_id, after, context.stopping, deadline
            )
            if action.id.resource.kind is Kind.SERVICE:
                traffic.follow(self._root, context.object_id)

    def _served(self, container_id: str) -> bool:
        """Tell whether a container that was to be replaced ran until the host went down."""
        with suppress(NotFoundError):
            found = self._containers.status(container_id)
            return found.resumes or not found.ended
        return False

    def halt(self, action: Action, context: Context) -> Outcome:
        """End it because the host ends; see ``Reviver.halt``."""
        with failing():
            self._containers.stop(action.object_id, resumes=True)
            return Outcome(action.object_id, action.after or {})

    def _perform_ports(self, action: Action, context: Context) -> Outcome:
        """Publish the ports of a Service in front of its replicas, or withdraw them."""
        owner = action.id.resource.owner
        if action.verb is Verb.DELETE:
            withdraw(self._root, action.object_id or owner)
            return Outcome("", {})
        after = action.after or {}
        self._publish(action, [backend["id"] for backend in after["backends"]])
        traffic.follow(self._root)
        return Outcome(owner, after)

    def _perform_container(self, action: Action, context: Context) -> Outcome:
        if action.verb is Verb.DELETE:
            going = {*action.leftovers, action.object_id} - {""}
            self._withdraw(action, going, context)
            if action.before is None:
                self._withdraw_stray(action.object_id)
            for object_id in sorted(going):
                self._remove(object_id)
            return Outcome("", {})
        after = action.after or {}
        replaces = action.verb is not Verb.UPDATE or action.consequence in _REPLACING
        if not self._proves_first(action, after):
            early = set(action.leftovers)
        elif replaces and action.unproven and action.leftovers:
            early = {action.object_id}  # else each failed attempt would stay until one succeeds
        else:
            early = set()
        if early:
            self._withdraw(action, early, context)
        for object_id in sorted(early):
            self._remove(object_id)
        if replaces:
            object_id = context.object_id
            self._make(action, after, object_id, context)
        else:
            object_id = action.object_id
            self._update(action, after, context)
        if not settles(action):
            self._hand_over(action, object_id, context)
        # What a Job has done is not undone by new names around it.
        return Outcome(object_id, after, record={} if replaces else action.record)

    def _hand_over(self, action: Action, object_id: str, context: Context) -> None:
        """Let published traffic go to the container that is ready, and remove those before it."""
        resource = action.id.resource
        if resource.kind is Kind.CONTAINER:
            self._publish(action, [object_id])
        gone = {*action.leftovers, action.object_id} - {"", object_id}
        if resource.kind is Kind.SERVICE and gone:
            self._move_backends(action, context, add=object_id, remove=gone)
        if resource.kind is Kind.SERVICE:
            traffic.follow(self._root, object_id)
        for old in sorted(gone):
            self._remove(old)

    def _remove(self, container_id: str) -> None:
        """Let it end, by its stop signal and within its grace, and remove it. Idempotent."""
        self._containers.remove(container_id, force=True, gently=True)

    def _withdraw(self, action: Action, going: Collection[str], context: Context) -> None:
        """Let no more published traffic go to containers that are about to end."""
        if action.id.resource.kind is Kind.CONTAINER and action.verb is Verb.DELETE:
            withdraw(self._root, action.id.resource.owner)
        elif action.id.resource.kind is Kind.SERVICE:
            self._move_backends(action, context, remove=going)

    def _withdraw_stray(self, container_id: str) -> None:
        """Let no published traffic go to a container of which no ledger tells what it publishes."""
        address = addresses_of(store.load_all(self._root)).get(container_id)
        if address is None:
            return
        with firewall.commit(self._root) as change:
            for owner, published in change.wanted.publications.items():
                rest = [
                    replace(p, backends=tuple(b for b in p.backends if b[0] != address))
                    for p in published
                ]
                if rest != list(published):
                    change.publish(owner, [p for p in rest if p.backends])

    def _move_backends(
        self, action: Action, context: Context, *, add: str = "", remove: Collection[str]
    ) -> None:
        """Change who is behind the ports of a Service, whichever those are by now.

        The ports themselves are another action's, which may be at work at the same time; until it
        has been, those of a renamed Service go by its former name.
        """
        for instance in filter(None, (action.id, action.renamed_from)):
            ports = context.find(InstanceId(instance.resource, instance.host))
            if ports is None or not ports.effective:
                continue
            owner = instance.resource.owner
            addresses = addresses_of(store.load_all(self._root))
            with firewall.commit(self._root) as change:
                current = change.wanted.publications.get(owner, ())
                wanted = with_backend(
                    current,
                    ports.effective["publish"],
                    add=addresses.get(add),
                    remove=[addresses[each] for each in remove if each in addresses],
                    leased=addresses.values(),
                )
                if wanted != in_order(current):
                    change.publish(owner, wanted)

    def _publish(self, action: Action, containers: Sequence[str]) -> None:
        """Lead to *containers* what is published, and what others are still to take over.

        A commit costs a call of nft, so there is none where nothing changes and nothing is wrong.
        """
        owner, ports = action.id.resource.owner, (action.after or {})["publish"]
        former = action.renamed_from.resource.owner if action.renamed_from else owner
        addresses = addresses_of(store.load_all(self._root))
        wanted = publications(ports, containers, addresses)

        def whole(known: Mapping[str, Sequence[Publication]]) -> tuple[Publication, ...]:
            has = (*known.get(owner, ()), *(known.get(former, ()) if former != owner else ()))
            still = handed_over(has, action.hands_over, containers, addresses)
            return in_order((*wanted, *still))

        known = firewall.publications(self._root)
        if in_order(known.get(owner, ())) != whole(known) or (former != owner and former in known):
            with firewall.commit(self._root) as change:
                target = whole(change.wanted.publications)
                if former != owner:
                    change.unpublish(former)
                change.publish(owner, target, takes_over=action.takes_over)
        if wanted:
            network_observe.repair(self._root, networks=frozenset(), containers=frozenset())

    @staticmethod
    def _proves_first(action: Action, after: Tree) -> bool:
        """Tell whether the new container starts beside the one it replaces."""
        if action.id.resource.kind is Kind.JOB or after["state"] != "running":
            return False
        return bool(after["update"]["order"] == "start-first")

    def _make(self, action: Action, after: Tree, object_id: str, context: Context) -> None:
        """Make a new container, beside or in place of the one that is there."""
        old = action.object_id if action.object_id != object_id else ""
        if old and action.id.resource.kind is Kind.JOB:
            self._remove(old)
        elif old and not self._proves_first(action, after):
            self._withdraw(action, {old}, context)
            with suppress(NotFoundError):
                self._containers.stop(old)
        self._create(action.id, after, object_id, context)
        if old:
            self._pass_on(old, object_id)
        if after.get("state", "running") == "running":
            for warning in self._start(after, object_id, context):
                context.progress(warning)

    def _start(self, after: Tree, object_id: str, context: Context) -> tuple[str, ...]:
        """Start it, at addresses that nobody else asks for."""
        networks = after["container"]["networks"]
        avoid = {use["id"]: context.asked_for(use["project"], use["name"]) for use in networks}
        return self._containers.start(object_id, avoid=avoid)

    def _pass_on(self, old: str, object_id: str) -> None:
        """Let the new container have the addresses it asks for, where the old one holds them."""
        for join in read_config(self._root, object_id).joins:
            if join.ip:
                attachment.pass_on(self._root, join.network, join.ip, former=old, heir=object_id)

    def _create(self, instance: InstanceId, after: Tree, object_id: str, context: Context) -> None:
        container: Tree = after["container"]
        layers = self._store.layers(container["image"]["digest"])
        for use in container["volumes"]:
            self._prepare_volume(use, layers)
        account = resolve_user(layers, container["user"], container["groups"])
        with making(self._root):  # its files have no owner before it is created
            site = Site(
                root=self._root,
                container_id=object_id,
                layers=layers,
                user=account.user,
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
        elif use["volume"]:
            volume.prepare(self._root, use["id"], layers, use["target"], copy=use["copy"])

    def _update(self, action: Action, after: Tree, context: Context) -> None:
        """Change a container in place, and start it anew where that is asked for."""
        from runtime.container.update import update

        before = read_config(self._root, action.object_id)
        if action.id.resource.kind is Kind.JOB:
            # It has ended, and must not hold on to a network that others have left.
            attachment.release(self._root, before.id)
        status = self._containers.status(before.id)
        if status.state == "running":
            if status.paused:
                self._containers.unpause(before.id)
            inside.mend(before, status, self._containers.cgroup(before.id))
        if action.consequence is Consequence.RESTART:
            self._containers.stop(before.id)
            # Secrets do not outlive a reboot; the folders are mounted anew at the start.
            write_container_files(self._root, before.id, after["container"], context)
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
        warnings = list(update(self._containers, config))
        if action.consequence is Consequence.RESTART and after["state"] == "running":
            warnings += self._start(after, before.id, context)
        network_observe.repair(
            self._root,
            containers=frozenset({before.id}),
            inside=not inside.owns_network(config),
        )
        for warning in warnings:
            context.progress(warning)


def withdraw(root: Root, owner: str) -> None:
    """Let *owner* publish nothing; idempotent."""
    if owner in firewall.publications(root):
        firewall.unpublish(root, owner)


def _home(env: tuple[str, ...]) -> str:
    return next((v.removeprefix("HOME=") for v in env if v.startswith("HOME=")), "/")
