"""The dependency graph of a project as a networkx graph (nobody else imports networkx).

Importing networkx takes longer than a whole no-op apply may, so this module is imported inside
the functions that need it: for pictures, for other people's questions to the graph, and to word
a cycle. What only needs an order reads ``Desired.resources``, which is in dependency order.
"""

import itertools
from collections.abc import Iterable

import networkx as nx

from provider.errors import Origin, Problem
from provider.manifest.order import sort_key
from provider.manifest.provenance import place
from provider.model.ids import ResourceId
from provider.model.resource import Dependency, Resource


def build(resources: Iterable[Resource]) -> "nx.DiGraph[ResourceId]":
    """Return the graph: an edge leads from the dependent to what it needs.

    Nodes have the attribute ``resource`` (None for what belongs to another project), edges have
    ``dependency``; where two fields name the same target, the stricter one: that of dependsOn.
    """
    graph: nx.DiGraph[ResourceId] = nx.DiGraph()
    known = sorted(resources, key=lambda r: sort_key(r.id))
    for resource in known:
        graph.add_node(resource.id, resource=resource)
    for resource in known:
        for edge in resource.dependencies:
            if edge.target not in graph:
                graph.add_node(edge.target, resource=None)
            is_new = not graph.has_edge(resource.id, edge.target)
            if is_new or edge.field.startswith("dependsOn"):
                graph.add_edge(resource.id, edge.target, dependency=edge)
    return graph


def generations(resources: Iterable[Resource]) -> tuple[tuple[ResourceId, ...], ...]:
    """Return what can be done at the same time, in groups: dependencies first.

    Raises:
        networkx.NetworkXUnfeasible: there is a cycle; compiled manifests have none.
    """
    graph = build(resources)
    return tuple(
        tuple(sorted(group, key=sort_key))
        for group in nx.topological_generations(graph.reverse(copy=False))
    )


def dependents(resources: Iterable[Resource], target: ResourceId) -> frozenset[ResourceId]:
    """Return everything that needs *target*, directly or not."""
    graph = build(resources)
    return frozenset(nx.ancestors(graph, target)) if target in graph else frozenset()


def cycle_problems(resources: Iterable[Resource]) -> tuple[Problem, ...]:
    """Return one problem per knot of resources that wait for each other.

    Each shows a shortest way round with the places that make it:
    ``Container/a -> Container/b (shop.yaml:9:16) -> Container/a (shop.yaml:21:16)``.
    """
    known = {resource.id: resource for resource in resources}
    graph = build(known.values())
    problems = []
    for knot in nx.strongly_connected_components(graph):
        start = min(knot, key=sort_key)
        if len(knot) == 1 and not graph.has_edge(start, start):
            continue
        ways = (
            [start, *nx.shortest_path(graph.subgraph(knot), following, start)]
            for following in sorted(graph.successors(start), key=sort_key)
            if following in knot
        )
        problems.append(_problem(min(ways, key=len), graph, known))
    return tuple(problems)


def _problem(
    way: list[ResourceId],
    graph: "nx.DiGraph[ResourceId]",
    known: dict[ResourceId, Resource],
) -> Problem:
    text = str(way[0])
    first: Origin | None = None
    for dependent, target in itertools.pairwise(way):
        edge: Dependency = graph.edges[dependent, target]["dependency"]
        origin = _edge_place(known[dependent], edge)
        first = first or origin
        text += f" -> {target}" + (f" ({origin})" if origin else "")
    return Problem(f"dependency cycle: {text}", first, suggestion="remove one of these edges")


def _edge_place(resource: Resource, edge: Dependency) -> Origin | None:
    return place(resource.provenance, edge.field, resource.origin)
