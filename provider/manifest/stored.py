"""A compiled project as JSON and back, for the cache; no values of secrets are in it."""

from collections.abc import Iterator, Mapping
from typing import Any

from provider.errors import Origin
from provider.manifest.compiled import Compiled, SecretSource
from provider.model.ids import Kind, ResourceId
from provider.model.resource import Condition, Dependency, Desired, Effect, Resource
from provider.model.tree import Tree

Row = list[Any]


class StoredPlaces(Mapping[str, Origin]):
    """Provenance as it was stored; origins are made when asked for, which is seldom."""

    __slots__ = ("_files", "_rows")

    def __init__(self, rows: Mapping[str, Row], files: list[str]) -> None:
        self._rows = rows
        self._files = files

    def __getitem__(self, path: str) -> Origin:
        return _origin(self._rows[path], self._files)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, path: object) -> bool:
        return path in self._rows


def store(compiled: Compiled) -> Tree:
    """Return *compiled* as plain data.

    Raises:
        ValueError: it holds values of secrets, which must not be written anywhere.
    """
    if compiled.values:
        raise ValueError("a project with secret values in its input is not stored")
    files: dict[str, int] = {}
    hosts: dict[tuple[str, ...], int] = {}
    desired = compiled.desired
    return {
        "project": desired.project,
        "prune": desired.prune,
        "sources": list(desired.sources),
        "resources": [_store_resource(resource, files, hosts) for resource in desired.resources],
        "secrets": [
            [_store_id(owner), source.folder, source.identity, dict(source.items)]
            for owner, source in compiled.sources.items()
        ],
        "files": list(files),
        "hosts": [list(names) for names in hosts],
    }


def restore(tree: Tree) -> Compiled:
    """Return what ``store`` was given."""
    files: list[str] = tree["files"]
    # With a thousand hosts, most resources share one tuple of them.
    hosts = [tuple(names) for names in tree["hosts"]]
    desired = Desired(
        project=tree["project"],
        resources=tuple(_restore_resource(row, files, hosts) for row in tree["resources"]),
        prune=tree["prune"],
        sources=tuple(tree["sources"]),
    )
    return Compiled(
        desired,
        {
            _restore_id(owner): SecretSource(folder, identity, items)
            for owner, folder, identity, items in tree["secrets"]
        },
    )


def _store_resource(
    resource: Resource, files: dict[str, int], hosts: dict[tuple[str, ...], int]
) -> Tree:
    return {
        "id": _store_id(resource.id),
        "spec": resource.spec,
        "labels": dict(resource.labels),
        "annotations": dict(resource.annotations),
        "formerName": resource.former_name,
        "dependencies": [
            [*_store_id(edge.target), edge.condition, edge.timeout_s, edge.effect, edge.field]
            for edge in resource.dependencies
        ],
        "hosts": hosts.setdefault(resource.hosts, len(hosts)),
        "preventDestroy": resource.prevent_destroy,
        "prune": resource.prune,
        "ignore": list(resource.ignore),
        "origin": resource.origin and _row(resource.origin, files),
        "provenance": {path: _row(origin, files) for path, origin in resource.provenance.items()},
    }


def _restore_resource(tree: Tree, files: list[str], hosts: list[tuple[str, ...]]) -> Resource:
    return Resource(
        id=_restore_id(tree["id"]),
        spec=tree["spec"],
        labels=tree["labels"],
        annotations=tree["annotations"],
        former_name=tree["formerName"],
        dependencies=tuple(
            Dependency(
                ResourceId(project, Kind(kind), name),
                Condition(condition),
                timeout_s,
                Effect(effect),
                field,
            )
            for project, kind, name, condition, timeout_s, effect, field in tree["dependencies"]
        ),
        hosts=hosts[tree["hosts"]],
        prevent_destroy=tree["preventDestroy"],
        prune=tree["prune"],
        ignore=tuple(tree["ignore"]),
        origin=tree["origin"] and _origin(tree["origin"], files),
        provenance=StoredPlaces(tree["provenance"], files),
    )


def _store_id(resource_id: ResourceId) -> Row:
    return [resource_id.project, resource_id.kind, resource_id.name]


def _restore_id(row: Row) -> ResourceId:
    project, kind, name = row
    return ResourceId(project, Kind(kind), name)


def _row(origin: Origin, files: dict[str, int]) -> Row:
    file = files.setdefault(origin.path, len(files))
    return [file, origin.line, origin.column, *([origin.note] if origin.note else ())]


def _origin(row: Row, files: list[str]) -> Origin:
    return Origin(files[row[0]], *row[1:])
