"""What a schema cannot see: fields of one or several resources that do not go together. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from provider.errors import Origin, Problem
from provider.manifest.draft import Catalog, Draft
from provider.manifest.gap import each
from provider.manifest.limits import limit_problems
from provider.manifest.mounts import mount_problems
from provider.model.ids import Kind, ResourceId
from provider.model.tree import Tree, item

_ENDLESS = ("always", "unless-stopped")


def check(catalog: Catalog, hosts: Mapping[ResourceId, Sequence[str]]) -> Iterator[Problem]:
    """Yield every problem with the drafts of *catalog*, each taken once."""
    yield from _former_names(catalog)
    yield from each(catalog, lambda draft: _shared_names(draft, catalog))
    yield from each(catalog, _empty_images)
    yield from each(catalog, lambda draft: _of_container(draft, catalog, hosts[draft.id]))


def _of_container(draft: Draft, catalog: Catalog, hosts: Sequence[str]) -> Iterator[Problem]:
    container = draft.container
    if container is not None:
        checks = (mount_problems, limit_problems, _endless)
        yield from each(checks, lambda check: check(draft, container))
        yield from _writers(draft, container, catalog, hosts)
        yield from _no_command(draft, container, catalog)


def _empty_images(draft: Draft) -> Iterator[Problem]:
    """Yield a problem if *draft* is an Image of the host's programs that takes nothing."""
    host = draft.spec["host"] if draft.id.kind is Kind.IMAGE else None
    if host is not None and not host["programs"] and not host["files"]:
        yield draft.problem("host", "nothing is taken", expected="programs or files")


def _endless(draft: Draft, container: Tree) -> Iterator[Problem]:
    if draft.id.kind is Kind.JOB and container["restart"]["policy"] in _ENDLESS:
        yield draft.problem(
            "container.restart",
            f"a Job that restarts {container['restart']['policy']} never completes",
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


def _no_command(draft: Draft, container: Tree, catalog: Catalog) -> Iterator[Problem]:
    """Yield a problem if neither *draft* nor its image, one of Debian packages, runs anything."""
    image = container["image"]
    if container["entrypoint"] is not None or container["command"] is not None:
        return
    if image["project"] not in (None, catalog.project):
        return
    source = catalog.get(Kind.IMAGE, image["name"])
    if source is None or source.spec["debian"] is None:
        return
    config = source.spec["config"]
    if config["entrypoint"] is None and config["command"] is None:
        yield draft.problem(
            "container",
            f"there is no command to run, nor in {source.id}{_at(source.origin)}",
            expected="command",
        )


def _shared_names(service: Draft, catalog: Catalog) -> Iterator[Problem]:
    """Yield a problem if a Service shares name and network with a Container: two answers."""
    container = catalog.get(Kind.CONTAINER, service.id.name)
    if service.id.kind is not Kind.SERVICE or container is None:
        return
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
    def names(use: Tree) -> Iterator[tuple[str, str]]:
        yield use["project"] or draft.id.project, use["name"]

    return set(each(draft.container["networks"], names)) if draft.container is not None else set()


def _writers(
    draft: Draft, container: Tree, catalog: Catalog, hosts: Sequence[str]
) -> Iterator[Problem]:
    """Yield named volumes that two containers of *draft* would write to at the same time."""
    return each(container["volumes"], lambda mount: _written(draft, mount, catalog, hosts))


def _written(
    draft: Draft, mount: Tree, catalog: Catalog, hosts: Sequence[str]
) -> Iterator[Problem]:
    if mount["volume"] is None or mount["readOnly"]:
        return
    if mount["project"] not in (None, catalog.project):
        return
    volume = catalog.get(Kind.VOLUME, mount["volume"])
    if volume is None or volume.spec["sharedWriters"]:
        return
    hint = f"mount it readOnly, or set sharedWriters: true on {volume.id}{_at(volume.origin)}"
    path = item("container.volumes", mount["target"])
    replicas = draft.spec.get("replicas", 1)
    if draft.id.kind is Kind.SERVICE and replicas > 1 and replicas > len(hosts):
        yield draft.problem(
            path, f"{replicas} replicas would write to {volume.id}", suggestion=hint
        )
    elif draft.spec.get("update", {}).get("order") == "start-first":
        yield draft.problem(
            path,
            f"with order start-first, old and new would both write to {volume.id}",
            suggestion=f"use order: stop-first, or {hint}",
        )


def _at(origin: Origin | None) -> str:
    return f" ({origin})" if origin else ""
