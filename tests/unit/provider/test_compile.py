"""Everything that can be written compiles, or is refused with reasons; nothing else happens."""

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provider.errors import ManifestError, Problem
from provider.manifest.files import SourceFile
from provider.manifest.load import load
from provider.manifest.source import read_sources
from provider.model.ids import Kind, ResourceId
from provider.model.resource import Condition
from tests.support.documents import API, shop

GOLDEN = Path(__file__).parents[2] / "golden" / "manifests"
ENVIRONMENT = {"SHOP_TOKEN": "t", "PATH": "/usr/bin:/bin"}
JUNK: list[Any] = [
    None, True, -1, 0, 7.5, "", "x", "a/b", "0.0.0.0:1:2", "1.2.3.4", [], [None], [[]], ["x", "x"],
    {}, {"name": 5}, {"x": None}, [{"name": "a"}, {"name": "a"}], "\x7f", "é", 10**30, "9" * 5000,
]  # fmt: skip


def trees(case: str) -> list[Any]:
    file = GOLDEN / case / "manifest.yaml"
    return [d.tree for d in read_sources([SourceFile(str(file), file.read_bytes())]).documents]


def nodes(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    return [path, *(found for key, below in items for found in nodes(below, (*path, key)))]


def damage(documents: list[Any], rng: random.Random) -> None:
    """Change one random node: gone, replaced, renamed, or copied to another place."""
    path = rng.choice([p for p in nodes(documents) if p])
    parent = documents
    for step in path[:-1]:
        parent = parent[step]
    match rng.randrange(4):
        case 0:
            del parent[path[-1]]
        case 1:
            parent[path[-1]] = rng.choice(JUNK)
        case 2 if isinstance(parent, dict):
            parent[rng.choice(["nonsense", "name", "spec", "", "a b"])] = parent.pop(path[-1])
        case _:
            other: Any = documents
            for step in rng.choice(nodes(documents)):
                other = other[step]
            parent[path[-1]] = copy.deepcopy(other)


@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.sampled_from(["shop", "hosts", "references", "addresses", "conflicts"]),
    st.integers(0, 2**32),
    st.integers(1, 4),
    st.booleans(),
)
def test_damaged_manifests_are_refused_with_reasons(
    monkeypatch: pytest.MonkeyPatch, case: str, seed: int, times: int, as_overlay: bool
) -> None:
    monkeypatch.chdir(GOLDEN / case)
    rng = random.Random(seed)
    documents = trees(case)
    for _ in range(times):
        damage(documents, rng)
    text = "---\n".join(json.dumps(document) + "\n" for document in documents).encode()
    run: Any = {"files": ["manifest.yaml"], "overlays": ["-"]} if as_overlay else {"files": ["-"]}
    found: tuple[Problem, ...] = ()
    try:
        load(**run, stdin=text, env=ENVIRONMENT)
    except ManifestError as error:
        found = error.problems
    assert all(problem.message for problem in found)


def test_one_mistake_is_one_problem(tmp_path: Path) -> None:
    """What fails its schema is still known to those who refer to it."""
    broken = f"apiVersion: {API}\nkind: Network\nmetadata: {{name: back}}\nspec: {{subnt: x}}"
    host = f"apiVersion: {API}\nkind: Host\nmetadata: {{name: east}}\nspec: {{port: big}}"
    user = (
        f"apiVersion: {API}\nkind: Container\nmetadata: {{name: web}}\n"
        "spec: {container: {image: app, networks: [back]}, hosts: [east], "
        "dependsOn: [Network/back]}"
    )
    with pytest.raises(ManifestError) as caught:
        shop(tmp_path, broken, host, user)
    assert [p.path for p in caught.value.problems] == ["spec.subnt", "spec.port"]


def test_references_to_other_projects_are_edges_that_lead_outside(tmp_path: Path) -> None:
    found = shop(
        tmp_path,
        f"apiVersion: {API}\nkind: Container\nmetadata: {{name: web}}\n"
        "spec: {container: {image: {name: base, project: common},\n"
        "  networks: [{name: front, project: common}, {name: own, project: shop}]}}",
        f"apiVersion: {API}\nkind: Network\nmetadata: {{name: own}}",
    )
    web = found.resources[-1]
    assert [(e.target.project, str(e.target)) for e in web.dependencies] == [
        ("common", "Image/base"),
        ("common", "Network/front"),
        ("shop", "Network/own"),
    ]
    assert "Network/default" not in [str(r.id) for r in found.resources]


def test_edges_carry_what_depends_on_says(tmp_path: Path) -> None:
    about = f"apiVersion: {API}\nkind: Container\nmetadata: {{name: %s}}\n"
    found = shop(
        tmp_path,
        about % "db" + "spec: {container: {image: app}}",
        about % "web" + "spec: {container: {image: app}, dependsOn: [{kind: Container, name: db, "
        "condition: healthy, timeout: 1m30s, effect: recreate}]}",
    )
    edge = found.resources[-1].dependencies[-1]
    assert edge.target == ResourceId("shop", Kind.CONTAINER, "db")
    assert (edge.condition, edge.timeout_s, edge.effect) == (Condition.HEALTHY, 90.0, "recreate")
    assert edge.field == "dependsOn[Container/db]"


def test_what_has_no_hosts_of_its_own_follows_its_dependents(tmp_path: Path) -> None:
    def hosted(name: str) -> str:
        return f"apiVersion: {API}\nkind: Host\nmetadata: {{name: {name}}}"

    found = shop(
        tmp_path,
        hosted("a"),
        hosted("b"),
        hosted("c"),
        f"apiVersion: {API}\nkind: Container\nmetadata: {{name: web}}\n"
        "spec: {container: {image: app}, hosts: [c, a]}",
        f"apiVersion: {API}\nkind: Config\nmetadata: {{name: unused}}\nspec: {{data: {{}}}}",
    )
    hosts = {str(r.id): r.hosts for r in found.resources}
    assert hosts["Image/app"] == ("a", "c")
    assert hosts["Container/web"] == ("a", "c")
    assert hosts["Config/unused"] == hosts["Network/default"] == ("a", "b", "c")


NAMES_DEFAULT = (
    "{container: {image: app, networks: [default]}}",
    "{container: {image: app, networks: [{name: default, project: shop, aliases: [x]}]}}",
    "{container: {image: app, networkMode: none}, dependsOn: [Network/default]}",
)


@pytest.mark.parametrize("spec", [*NAMES_DEFAULT, "{container: {image: app}}"])
def test_whoever_names_the_default_network_gets_it(tmp_path: Path, spec: str) -> None:
    about = f"apiVersion: {API}\nkind: %s\nmetadata: {{name: %s}}\nspec: %s\n"
    web = about % ("Container", "web", spec)
    implied = shop(tmp_path, web)
    beside = shop(tmp_path, web, about % ("Job", "other", "{container: {image: app}}"))
    network = ResourceId("shop", Kind.NETWORK, "default")
    for found in (implied, beside):
        assert found.get(network) is not None
        web_found = found.get(ResourceId("shop", Kind.CONTAINER, "web"))
        assert web_found is not None
        assert network in [edge.target for edge in web_found.dependencies]
    written = shop(tmp_path, web, about % ("Network", "default", "{mtu: 1400}")).get(network)
    assert written is not None
    assert written.spec["mtu"] == 1400


def test_nobody_else_gets_it(tmp_path: Path) -> None:
    about = f"apiVersion: {API}\nkind: Container\nmetadata: {{name: %s}}\nspec: %s\n"
    spec = "{container: {image: app, networks: [{name: default, project: far}]}}"
    found = shop(tmp_path, about % ("web", spec))
    assert found.get(ResourceId("shop", Kind.NETWORK, "default")) is None
    spec = "{container: {image: app, networkMode: host, networks: [default]}}"
    with pytest.raises(ManifestError) as caught:
        shop(tmp_path, about % ("web", spec))
    (problem,) = caught.value.problems
    assert problem.message == "networkMode host joins no networks"


def test_ports_on_different_hosts_do_not_meet(tmp_path: Path) -> None:
    def on(host: str) -> str:
        return (
            f"apiVersion: {API}\nkind: Host\nmetadata: {{name: {host}}}\n---\n"
            f"apiVersion: {API}\nkind: Container\nmetadata: {{name: on-{host}}}\n"
            f"spec: {{container: {{image: app}}, hosts: [{host}], publish: [80]}}"
        )

    assert len(shop(tmp_path, on("a"), on("b")).resources) == 6


def test_a_config_with_a_secret_is_no_variable(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml.j2").write_text(
        f"apiVersion: {API}\nkind: Config\nmetadata: {{name: c}}\n"
        'spec: {data: {k: "{{ password }}"}}\n---\n'
        f"apiVersion: {API}\nkind: Image\nmetadata: {{name: app}}\n"
        "spec: {host: {programs: [/bin/true]}}\n---\n"
        f"apiVersion: {API}\nkind: Container\nmetadata: {{name: web}}\n"
        "spec: {container: {image: app, env: {A: {config: c, key: k}}}}\n"
    )
    with pytest.raises(ManifestError, match="Config/c key k holds a secret"):
        load(
            [tmp_path / "shop.yaml.j2"],
            project="shop",
            secret_values=["-"],
            stdin=b"password: hunter2",
        )
