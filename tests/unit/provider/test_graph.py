"""Dependency order, generations, cycles with their places."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider.errors import Origin
from provider.manifest import graph
from provider.manifest.order import dependency_order
from provider.model.ids import Kind, ResourceId
from provider.model.resource import Dependency, Resource


def named(name: str, kind: Kind = Kind.CONTAINER) -> ResourceId:
    return ResourceId("shop", kind, name)


def resource(name: str, *needs: str, kind: Kind = Kind.CONTAINER, line: int = 1) -> Resource:
    edges = tuple(Dependency(named(n), field=f"dependsOn[Container/{n}]") for n in needs)
    places = {edge.field: Origin("shop.yaml", line + i, 5) for i, edge in enumerate(edges)}
    return Resource(
        named(name, kind),
        {},
        dependencies=edges,
        origin=Origin("shop.yaml", line, 1),
        provenance=places,
    )


def names(resources: tuple[Resource, ...]) -> list[str]:
    return [r.id.name for r in resources]


def test_dependencies_come_first_whatever_the_order_of_the_input() -> None:
    resources = [resource("a", "b", "c"), resource("b", "c"), resource("c"), resource("d")]
    for permutation in itertools.permutations(resources):
        ordered, rest = dependency_order(permutation)
        assert names(ordered) == ["c", "b", "a", "d"]
        assert rest == ()


def test_a_target_outside_the_project_holds_nothing_back() -> None:
    ordered, rest = dependency_order([resource("a", "elsewhere")])
    assert (names(ordered), rest) == (["a"], ())


def test_the_rest_is_the_cycle_and_what_waits_for_it() -> None:
    ordered, rest = dependency_order(
        [resource("a", "b"), resource("b", "a"), resource("c", "a"), resource("d")]
    )
    assert names(ordered) == ["d"]
    assert names(rest) == ["a", "b", "c"]


@given(st.integers(0, 2**32), st.integers(2, 25))
def test_every_dag_is_ordered_completely(seed: int, size: int) -> None:
    rng = random.Random(seed)
    nodes = [
        resource(f"n{i}", *(f"n{j}" for j in range(i) if rng.random() < 0.3)) for i in range(size)
    ]
    rng.shuffle(nodes)
    ordered, rest = dependency_order(nodes)
    position = {r.id: i for i, r in enumerate(ordered)}
    assert rest == ()
    assert all(position[e.target] < position[r.id] for r in nodes for e in r.dependencies)


def test_generations_group_what_can_run_together() -> None:
    groups = graph.generations(
        [resource("a", "b", "c"), resource("b"), resource("c"), resource("d")]
    )
    assert [[str(i) for i in group] for group in groups] == [
        ["Container/b", "Container/c", "Container/d"],
        ["Container/a"],
    ]


def test_dependents_are_found_transitively() -> None:
    resources = [resource("a", "b"), resource("b", "c"), resource("c"), resource("d")]
    assert graph.dependents(resources, named("c")) == {named("a"), named("b")}
    assert graph.dependents(resources, named("unknown")) == frozenset()


def test_a_cycle_is_a_path_with_places() -> None:
    (problem,) = graph.cycle_problems(
        [resource("b", "a", line=20), resource("a", "b", line=10), resource("x", "a", line=30)]
    )
    assert problem.message == (
        "dependency cycle: Container/a -> Container/b (shop.yaml:10:5)"
        " -> Container/a (shop.yaml:20:5)"
    )
    assert problem.origin == Origin("shop.yaml", 10, 5)


def test_a_resource_that_waits_for_itself_is_a_cycle() -> None:
    (problem,) = graph.cycle_problems([resource("a", "a", line=3)])
    assert problem.message == "dependency cycle: Container/a -> Container/a (shop.yaml:3:5)"


def test_each_knot_is_one_problem_and_shows_a_shortest_way() -> None:
    resources = [
        resource("a", "b", "c"),
        resource("b", "c"),
        resource("c", "a"),
        resource("x", "y"),
        resource("y", "x"),
    ]
    messages = [p.message for p in graph.cycle_problems(resources)]
    assert len(messages) == 2
    knot = next(m for m in messages if "Container/a" in m)
    assert "Container/b" not in knot


def test_no_cycle_no_problem() -> None:
    assert graph.cycle_problems([resource("a", "b"), resource("b")]) == ()


def test_depends_on_wins_over_a_reference_to_the_same_target() -> None:
    reference = Dependency(named("b"), field="container.env.B")
    wait = Dependency(named("b"), field="dependsOn[Container/b]")
    built = graph.build([Resource(named("a"), {}, dependencies=(wait, reference)), resource("b")])
    assert built.edges[named("a"), named("b")]["dependency"] is wait


def test_what_belongs_to_another_project_is_a_node_without_a_resource() -> None:
    foreign = ResourceId("base", Kind.NETWORK, "shared")
    built = graph.build([Resource(named("a"), {}, dependencies=(Dependency(foreign),))])
    assert built.nodes[foreign]["resource"] is None


def test_graph_of_an_unfinished_order_raises() -> None:
    nx = pytest.importorskip("networkx")
    with pytest.raises(nx.NetworkXUnfeasible):
        graph.generations([resource("a", "a")])
