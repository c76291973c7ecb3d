"""What can be known to be in the way of a container before anything is touched."""

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from provider.drivers.port_preflight import Ports
from provider.engine.ports import Finding
from provider.model.plan import UNKNOWN, Action, Consequence, Verb
from provider.model.tree import Tree
from runtime.cgroup.setting import parse_list
from runtime.container.config import read_config
from runtime.errors import ContainerError, DamagedError, NotFoundError, UnsupportedHostError
from runtime.image.store import ImageStore
from runtime.kernel.procfs import is_confined
from runtime.network import store
from runtime.network.firewall import Publication
from runtime.root import Root
from runtime.rootfs.passwd import resolve_user

_ONLINE = Path("/sys/devices/system/cpu/online")
"""Source: Documentation/admin-guide/cputopology.rst."""


def check_actions(root: Root, actions: Sequence[Action]) -> Iterable[Finding]:
    """Yield what would make *actions* fail. Read-only."""
    wanted = [a for a in actions if a.verb is not Verb.DELETE and a.after is not None]
    if not wanted:
        return
    leaving = {a.id.resource.owner for a in actions if a.verb is Verb.DELETE}
    leaving |= {a.object_id for a in actions if a.verb is Verb.DELETE}  # what no ledger knows
    # What goes frees its addresses, and must not keep the apply from coming to that.
    passing = {i for a in actions for i in a.leftovers}
    passing |= {a.object_id for a in actions if a.verb is Verb.DELETE}
    ports = Ports(root)
    for action in wanted:
        after: Tree = action.after or {}
        own = {a.resource.owner for a in (action.id, action.renamed_from) if a}
        for port in after.get("publish") or ():
            publication = Publication(port["port"], port["protocol"], ip=port["ip"])
            yield from ports.in_the_way(
                publication,
                own=own,
                leaving={*leaving, *action.takes_over},
                instance=action.id,
            )
        if "container" in after:
            yield from _sources(action, after["container"])
            if is_confined():
                yield from _limits(action, after["container"])
            yield from _processors(action, after["container"])
            yield from _account(root, action, after["container"])
            asks = any(use["ip"] for use in after["container"]["networks"])
            released = passing | _released_before(action, actions) if asks else passing
            yield from _addresses(root, action, after["container"], released)


def _released_before(action: Action, actions: Sequence[Action]) -> set[str]:
    """Return the containers that are replaced by others before *action* begins."""
    needs = {need.target for need in action.needs}
    replaced = (
        a for a in actions if a.id in needs and a.consequence.rank >= Consequence.REPLACE.rank
    )
    return {i for a in replaced for i in (a.object_id, *a.leftovers)}


def _sources(action: Action, container: Tree) -> Iterable[Finding]:
    for use in container["volumes"]:
        if use["bind"] and not use["create"] and not Path(use["bind"]).exists():
            yield Finding(
                f"bind source {use['bind']} of {use['target']} does not exist; make it, or say"
                " create: true",
                action.id,
                refusal=True,
            )
    for use in container["devices"]:
        if not Path(use["path"]).exists():
            yield Finding(f"device {use['path']} does not exist", action.id, refusal=True)


def _limits(action: Action, container: Tree) -> Iterable[Finding]:
    """Look for what an ordinary user cannot limit."""
    from provider.drivers.container_config import resources
    from runtime.cgroup import Hierarchy
    from runtime.cgroup.layout import lay_out, refuse

    try:
        refuse(lay_out(Hierarchy.detect(), resources(container)))
    except UnsupportedHostError as error:
        yield Finding(str(error), action.id, refusal=True)


def _processors(action: Action, container: Tree) -> Iterable[Finding]:
    wanted = container["resources"]["cpuset"]
    if wanted:
        online = _ONLINE.read_text().strip()
        if not parse_list(wanted) <= parse_list(online):
            text = f"cpuset {wanted}: this host has processors {online}"
            yield Finding(text, action.id, refusal=True)


def _addresses(
    root: Root, action: Action, container: Tree, passing: Collection[str]
) -> Iterable[Finding]:
    """Look for those that hold an address the container asks for, and keep it."""
    for use in container["networks"]:
        if not use["ip"] or use["id"] == UNKNOWN:
            continue
        with suppress(NotFoundError):
            for lease in store.load(root, use["id"]).leases:
                holder = lease.container
                if lease.ip == use["ip"] and holder != action.object_id and holder not in passing:
                    yield Finding(
                        f"address {lease.ip} of Network/{use['name']} is held by container"
                        f" {_name(root, holder)}: take another one, or replace that one first",
                        action.id,
                        refusal=True,
                    )


def _name(root: Root, container_id: str) -> str:
    with suppress(NotFoundError, DamagedError):
        return read_config(root, container_id).name
    return container_id


def _account(root: Root, action: Action, container: Tree) -> Iterable[Finding]:
    """Look for the user and the groups, where their image is here already."""
    digest = container["image"]["digest"]
    layers = None if digest == UNKNOWN else ImageStore(root).present_layers(digest)
    if layers is not None:
        try:
            resolve_user(layers, container["user"], container["groups"])
        except ContainerError as error:
            yield Finding(str(error), action.id, refusal=True)
