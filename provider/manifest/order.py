"""Dependency order of resources, without networkx: this is on the path of every command."""

import heapq
from collections.abc import Sequence

from provider.model.ids import Kind, ResourceId
from provider.model.resource import Resource

_RANK = {kind: rank for rank, kind in enumerate(Kind)}


def sort_key(resource_id: ResourceId) -> tuple[int, str]:
    """Return the key that lists resources the way people expect: by kind, then by name."""
    return _RANK[resource_id.kind], resource_id.name


def dependency_order(
    resources: Sequence[Resource],
) -> tuple[tuple[Resource, ...], tuple[Resource, ...]]:
    """Return the resources with every dependency before its dependents, and the rest.

    The order is the same for every order of the input. The rest is what a cycle holds back; it
    is empty for a graph without cycles. Targets outside *resources* do not count.
    """
    by_id = {resource.id: resource for resource in resources}
    waiting: dict[ResourceId, int] = {}
    dependents: dict[ResourceId, list[ResourceId]] = {}
    for resource in resources:
        targets = {edge.target for edge in resource.dependencies} & by_id.keys()
        waiting[resource.id] = len(targets)
        for target in targets:
            dependents.setdefault(target, []).append(resource.id)
    ready = [(sort_key(i), i) for i, count in waiting.items() if count == 0]
    heapq.heapify(ready)
    ordered: list[Resource] = []
    while ready:
        _, current = heapq.heappop(ready)
        ordered.append(by_id[current])
        for dependent in dependents.get(current, ()):
            waiting[dependent] -= 1
            if waiting[dependent] == 0:
                heapq.heappush(ready, (sort_key(dependent), dependent))
    done = {resource.id for resource in ordered}
    return tuple(ordered), tuple(r for r in resources if r.id not in done)
