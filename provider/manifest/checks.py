"""What a schema cannot see: fields of one or several resources that do not go together. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from provider.errors import Origin, Problem
from provider.manifest.draft import Catalog, Draft
from provider.model.ids import Kind, ResourceId
from provider.model.tree import Tree, item, join

_ENDLESS = ("always", "unless-stopped")


def check(catalog: Catalog, hosts: Mapping[ResourceId, Sequence[str]]) -> Iterator[Problem]:
    """Yield every problem with the drafts of *catalog*, each taken once."""
    yield from _former_names(catalog)
    yield from _shared_names(catalog)
    for draft in catalog:
        if draft.container is None:
            continue
        yield from _mount_targets(draft, draft.container)
        yield from _writers(draft, draft.container, catalog, len(hosts[draft.id]))
        yield from _limits(draft, draft.container)
        if draft.id.kind is Kind.JOB and draft.container["restart"]["policy"] in _ENDLESS:
            yield draft.problem(
                "container.restart",
                f"a Job that restarts {draft.container['restart']['policy']} never completes",
                expected="no or on-failure",
            )


def _former_names(catalog: Catalog) -> Iterator[Problem]:
    claimed: dict[ResourceId, Draft] = {}
    for draft in catalog:
        if not draft.former_name:
            continue
        path = "metadata.formerName"
        former = ResourceId(draft.id.project, draft.id.kind, draft.former_name)
        present = catalog.get(former.kind, former.name)
        if former == draft.id:
            yield draft.problem(path, f"{former} is its own former name", suggestion="remove it")
        elif catalog.is_known(former.kind, former.name):
            where = _at(present.origin) if present else ""
            yield draft.problem(path, f"{former} is still defined{where}")
        elif former in claimed:
            other = claimed[former]
            yield draft.problem(
                path, f"{other.id} was {former} as well{_at(other.origin_of(path))}"
            )
        claimed.setdefault(former, draft)


def _shared_names(catalog: Catalog) -> Iterator[Problem]:
    """Yield Services that share name and network with a Container: one name, two answers."""
    for service in catalog:
        container = catalog.get(Kind.CONTAINER, service.id.name)
        if service.id.kind is not Kind.SERVICE or container is None:
            continue
        shared = _joined(service) & _joined(container)
        if shared:
            network = min(shared)[1]
            yield service.problem(
                "metadata.name",
                f"on network {network} the name {service.id.name} is that of {container.id} "
                f"too{_at(container.origin)}",
                suggestion="rename one of them",
            )


def _joined(draft: Draft) -> set[tuple[str, str]]:
    networks = draft.container["networks"] if draft.container else ()
    return {(use["project"] or draft.id.project, use["name"]) for use in networks}


def _mount_targets(draft: Draft, container: Tree) -> Iterator[Problem]:
    first: dict[str, str] = {}
    for member in ("volumes", "configs", "secrets"):
        for mount in container[member]:
            target, path = mount["target"], item(f"container.{member}", mount["target"])
            if target == "/":
                yield draft.problem(f"{path}.target", "nothing can be mounted over the root")
            elif target in first:
                where = _at(draft.origin_of(first[target]))
                yield draft.problem(f"{path}.target", f"{target} is a mount already{where}")
            first.setdefault(target, path)


def _writers(draft: Draft, container: Tree, catalog: Catalog, hosts: int) -> Iterator[Problem]:
    """Yield named volumes that two containers of *draft* would write to at the same time."""
    replicas = draft.spec.get("replicas", 1)
    start_first = draft.spec.get("update", {}).get("order") == "start-first"
    for mount in container["volumes"]:
        if mount["volume"] is None or mount["readOnly"]:
            continue
        if mount["project"] not in (None, catalog.project):
            continue
        volume = catalog.get(Kind.VOLUME, mount["volume"])
        if volume is None or volume.spec["sharedWriters"]:
            continue
        hint = f"mount it readOnly, or set sharedWriters: true on {volume.id}{_at(volume.origin)}"
        path = item("container.volumes", mount["target"])
        if draft.id.kind is Kind.SERVICE and replicas > hosts:
            yield draft.problem(
                path, f"{replicas} replicas would write to {volume.id}", suggestion=hint
            )
        elif start_first:
            yield draft.problem(
                path,
                f"with order start-first, old and new would both write to {volume.id}",
                suggestion=f"use order: stop-first, or {hint}",
            )


def _limits(draft: Draft, container: Tree) -> Iterator[Problem]:
    resources = container["resources"]
    memory, reservation = resources["memory"], resources["memoryReservation"]
    if resources["memorySwap"] is not None and memory is None:
        yield draft.problem(
            "container.resources.memorySwap", "swap comes on top of memory, which has no limit"
        )
    if memory is not None and reservation is not None and reservation > memory:
        yield draft.problem(
            "container.resources.memoryReservation",
            f"reserves {reservation} bytes of a limit of {memory}",
        )
    for name, limit in container["ulimits"].items():
        soft, hard = limit["soft"], limit["hard"]
        if hard != -1 and (soft == -1 or soft > hard):
            yield draft.problem(
                join("container.ulimits", name), f"soft limit {soft} is above the hard limit {hard}"
            )


def _at(origin: Origin | None) -> str:
    return f" ({origin})" if origin else ""
