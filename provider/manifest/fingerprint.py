"""The fingerprint of everything wanted, by which revisions are told apart."""

from collections.abc import Iterable

from provider.manifest.order import sort_key
from provider.model.resource import Resource
from provider.model.tree import Tree, fingerprint


def desired_fingerprint(project: str, resources: Iterable[Resource], *, prune: bool) -> str:
    """Return the digest of what is wanted; where it was written plays no part."""
    ordered = sorted(resources, key=lambda r: sort_key(r.id))
    # Written once each: with a thousand hosts, most resources name all of them.
    hosts: dict[tuple[str, ...], int] = {}
    essences = [_essence(resource, hosts) for resource in ordered]
    return fingerprint([project, prune, essences, [list(names) for names in hosts]])


def _essence(resource: Resource, hosts: dict[tuple[str, ...], int]) -> Tree:
    return {
        "kind": str(resource.id.kind),
        "name": resource.id.name,
        "spec": resource.spec,
        "labels": dict(resource.labels),
        "annotations": dict(resource.annotations),
        "formerName": resource.former_name,
        "dependencies": [
            [e.target.project, e.target.kind, e.target.name, e.condition, e.timeout_s, e.effect]
            for e in resource.dependencies
        ],
        "hosts": hosts.setdefault(resource.hosts, len(hosts)),
        "preventDestroy": resource.prevent_destroy,
        "prune": resource.prune,
        "ignore": list(resource.ignore),
    }
