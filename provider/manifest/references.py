"""Names to resources: the edges of the dependency graph, and what is wrong with them. Pure.

A bare name is a resource of this project; ``{project, name}`` may name one of another project,
which is an edge that leads outside and is looked up where that project was applied.
"""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

from provider.errors import Problem
from provider.manifest.draft import Catalog, Draft
from provider.manifest.gap import each, sound
from provider.manifest.suggest import did_you_mean
from provider.model.ids import Kind, ResourceId
from provider.model.resource import Condition, Dependency, Effect
from provider.model.tree import Tree, item, join


class Reference(NamedTuple):
    """One field that names another resource."""

    kind: Kind
    name: str
    project: str | None
    key: str | None
    """A key of a Config or Secret the field needs."""
    path: str


def references(container: Tree) -> Iterator[Reference]:
    """Yield what a canonical container refers to, as far as that is known."""
    return each(_FIELDS, lambda field: field(container))


def _image(container: Tree) -> Iterator[Reference]:
    image = container["image"]
    yield Reference(Kind.IMAGE, image["name"], image["project"], None, "container.image")


def _env(container: Tree) -> Iterator[Reference]:
    def one(member: tuple[str, Tree]) -> Iterator[Reference]:
        name, variable = member
        path = join("container.env", name)
        for kind, source in ((Kind.SECRET, "secret"), (Kind.CONFIG, "config")):
            if variable[source] is not None:
                yield Reference(kind, variable[source], None, variable["key"], path)

    return each(container["env"].items(), one)


def _networks(container: Tree) -> Iterator[Reference]:
    def one(network: Tree) -> Iterator[Reference]:
        path = item("container.networks", network["name"])
        yield Reference(Kind.NETWORK, network["name"], network["project"], None, path)

    return each(container["networks"], one)


def _volumes(container: Tree) -> Iterator[Reference]:
    def one(mount: Tree) -> Iterator[Reference]:
        if mount["volume"] is not None:
            path = item("container.volumes", mount["target"])
            yield Reference(Kind.VOLUME, mount["volume"], mount["project"], None, path)

    return each(container["volumes"], one)


def _files(kind: Kind, member: str, container: Tree) -> Iterator[Reference]:
    def one(file: Tree) -> Iterator[Reference]:
        path = item(f"container.{member}", file["target"])
        yield Reference(kind, file["name"], None, file["key"], path)

    return each(container[member], one)


_FIELDS: tuple[Callable[[Tree], Iterator[Reference]], ...] = (
    _image,
    _env,
    _networks,
    _volumes,
    functools.partial(_files, Kind.CONFIG, "configs"),
    functools.partial(_files, Kind.SECRET, "secrets"),
)


def edges(draft: Draft, catalog: Catalog) -> tuple[tuple[Dependency, ...], tuple[Problem, ...]]:
    """Return what *draft* needs, one edge per target and cause, and the problems with it."""
    found: dict[ResourceId, Dependency] = {}
    problems: list[Problem] = []
    for reference in references(draft.container) if draft.container is not None else ():
        target = ResourceId(reference.project or catalog.project, reference.kind, reference.name)
        missing = list(sound(_missing(draft, reference, catalog)))
        problems += missing
        if not missing:
            found.setdefault(target, Dependency(target, field=reference.path))
    waits: list[Dependency] = []
    for entry in sound(draft.depends_on):
        misplaced = list(sound(_misplaced(draft, entry, catalog)))
        problems += misplaced
        if not misplaced:
            waits += sound(_waits(entry, catalog.project))
    return (*found.values(), *waits), tuple(problems)


def _missing(draft: Draft, reference: Reference, catalog: Catalog) -> Iterator[Problem]:
    kind, name = reference.kind, reference.name
    if reference.project not in (None, catalog.project):
        return
    if not catalog.may_exist(kind, name):
        yield draft.problem(
            reference.path,
            f"unknown {kind} {name}",
            suggestion=catalog.suggest(kind, name),
        )
    target = catalog.get(kind, name)
    if target is None or reference.key is None or reference.key in target.spec["data"]:
        return
    keys = sorted(target.spec["data"])
    yield draft.problem(
        reference.path,
        f"{kind}/{name} has no key {reference.key}",
        expected=f"one of {', '.join(keys)}" if keys else "",
        suggestion=did_you_mean(reference.key, keys),
    )


def _misplaced(draft: Draft, entry: Tree, catalog: Catalog) -> Iterator[Problem]:
    kind, name = Kind(entry["kind"]), entry["name"]
    path = item("dependsOn", f"{kind}/{name}")
    if not catalog.may_exist(kind, name):
        yield draft.problem(path, f"unknown {kind} {name}", suggestion=catalog.suggest(kind, name))
        return
    condition = entry["condition"]
    if condition == Condition.COMPLETED and kind is not Kind.JOB:
        yield draft.problem(
            f"{path}.condition",
            f"{kind}/{name} never completes",
            expected="started or healthy; completed is for a Job",
        )
    elif condition == Condition.HEALTHY and kind not in (Kind.CONTAINER, Kind.SERVICE):
        yield draft.problem(
            f"{path}.condition",
            f"{kind}/{name} is never healthy",
            expected="completed" if kind is Kind.JOB else "started",
        )
    else:
        yield from _stopped(draft, catalog.get(kind, name), path, condition)


def _stopped(draft: Draft, target: Draft | None, path: str, condition: str) -> Iterator[Problem]:
    if target is None or target.spec.get("state") != "stopped":
        return
    if draft.spec.get("state") != "stopped":
        yield draft.problem(
            path,
            f"{target.id} is wanted stopped ({target.origin_of('state')}), "
            f"so it is never {condition}",
            suggestion="remove the dependency, or stop this one too",
        )


def _waits(entry: Tree, project: str) -> Iterator[Dependency]:
    yield Dependency(
        ResourceId(project, Kind(entry["kind"]), entry["name"]),
        condition=Condition(entry["condition"]),
        timeout_s=entry["timeout"],
        effect=Effect(entry["effect"]),
        field=item("dependsOn", f"{entry['kind']}/{entry['name']}"),
    )
