"""Names to resources: the edges of the dependency graph, and what is wrong with them. Pure.

A bare name is a resource of this project; ``{project, name}`` may name one of another project,
which is an edge that leads outside and is looked up where that project was applied.
"""

from collections.abc import Iterator
from typing import NamedTuple

from provider.errors import Problem
from provider.manifest.draft import Catalog, Draft
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
    """Yield what a canonical container refers to."""
    image = container["image"]
    yield Reference(Kind.IMAGE, image["name"], image["project"], None, "container.image")
    for name, variable in container["env"].items():
        path = join("container.env", name)
        if variable["secret"] is not None:
            yield Reference(Kind.SECRET, variable["secret"], None, variable["key"], path)
        if variable["config"] is not None:
            yield Reference(Kind.CONFIG, variable["config"], None, variable["key"], path)
    for network in container["networks"]:
        path = item("container.networks", network["name"])
        yield Reference(Kind.NETWORK, network["name"], network["project"], None, path)
    for mount in container["volumes"]:
        if mount["volume"] is not None:
            path = item("container.volumes", mount["target"])
            yield Reference(Kind.VOLUME, mount["volume"], mount["project"], None, path)
    for kind, member in ((Kind.CONFIG, "configs"), (Kind.SECRET, "secrets")):
        for file in container[member]:
            path = item(f"container.{member}", file["target"])
            yield Reference(kind, file["name"], None, file["key"], path)


def edges(draft: Draft, catalog: Catalog) -> tuple[tuple[Dependency, ...], tuple[Problem, ...]]:
    """Return what *draft* needs, one edge per target and cause, and the problems with it."""
    found: dict[ResourceId, Dependency] = {}
    problems: list[Problem] = []
    for reference in references(draft.container) if draft.container else ():
        target = ResourceId(reference.project or catalog.project, reference.kind, reference.name)
        if target.project == catalog.project:
            problem = _missing(draft, reference, catalog)
            if problem is not None:
                problems.append(problem)
                continue
        found.setdefault(target, Dependency(target, field=reference.path))
    waits: list[Dependency] = []
    for entry in draft.depends_on:
        problem = _misplaced(draft, entry, catalog)
        if problem is not None:
            problems.append(problem)
        else:
            waits.append(_wait(entry, catalog.project))
    return (*found.values(), *waits), tuple(problems)


def _missing(draft: Draft, reference: Reference, catalog: Catalog) -> Problem | None:
    kind, name = reference.kind, reference.name
    if not catalog.is_known(kind, name):
        return draft.problem(
            reference.path,
            f"unknown {kind} {name}",
            suggestion=catalog.suggest(kind, name),
        )
    target = catalog.get(kind, name)
    if target is None or reference.key is None or reference.key in target.spec["data"]:
        return None
    keys = sorted(target.spec["data"])
    return draft.problem(
        reference.path,
        f"{kind}/{name} has no key {reference.key}",
        expected=f"one of {', '.join(keys)}",
        suggestion=did_you_mean(reference.key, keys),
    )


def _misplaced(draft: Draft, entry: Tree, catalog: Catalog) -> Problem | None:
    kind, name, condition = Kind(entry["kind"]), entry["name"], entry["condition"]
    path = item("dependsOn", f"{kind}/{name}")
    if not catalog.is_known(kind, name):
        return draft.problem(path, f"unknown {kind} {name}", suggestion=catalog.suggest(kind, name))
    if condition == Condition.COMPLETED and kind is not Kind.JOB:
        return draft.problem(
            f"{path}.condition",
            f"{kind}/{name} never completes",
            expected="started or healthy; completed is for a Job",
        )
    if condition == Condition.HEALTHY and kind not in (Kind.CONTAINER, Kind.SERVICE):
        return draft.problem(
            f"{path}.condition",
            f"a {kind} is never healthy",
            expected="completed" if kind is Kind.JOB else "started",
        )
    target = catalog.get(kind, name)
    if target is not None and target.spec.get("state") == "stopped":
        stopped = draft.spec.get("state") == "stopped"
        if not stopped:
            return draft.problem(
                path,
                f"{kind}/{name} is wanted stopped ({target.origin_of('state')}), "
                f"so it is never {condition}",
                suggestion="remove the dependency, or stop this one too",
            )
    return None


def _wait(entry: Tree, project: str) -> Dependency:
    return Dependency(
        ResourceId(project, Kind(entry["kind"]), entry["name"]),
        condition=Condition(entry["condition"]),
        timeout_s=entry["timeout"],
        effect=Effect(entry["effect"]),
        field=item("dependsOn", f"{entry['kind']}/{entry['name']}"),
    )
