"""Pictures of the graph."""

import shutil
from pathlib import Path

import pytest

from provider.errors import UnsupportedHostError
from provider.manifest import picture
from provider.model.ids import Kind, ResourceId
from provider.model.resource import Condition, Dependency, Effect, Resource


def named(kind: Kind, name: str, project: str = "shop") -> ResourceId:
    return ResourceId(project, kind, name)


@pytest.fixture
def shop() -> list[Resource]:
    network = named(Kind.NETWORK, "back")
    database = named(Kind.CONTAINER, "db")
    return [
        Resource(network, {}),
        Resource(
            database,
            {},
            dependencies=(Dependency(network, field="container.networks[back]"),),
        ),
        Resource(
            named(Kind.SERVICE, "web"),
            {},
            dependencies=(
                Dependency(
                    database,
                    condition=Condition.HEALTHY,
                    effect=Effect.RESTART,
                    field="dependsOn[Container/db]",
                ),
                Dependency(network, field="container.networks[back]"),
                Dependency(named(Kind.VOLUME, "media", "base"), field="container.volumes[/media]"),
            ),
        ),
    ]


def test_tree_shows_needs_below_and_does_not_repeat(shop: list[Resource]) -> None:
    assert picture.tree(shop) == (
        "Service/web\n"
        "├── Network/back\n"
        "├── Volume/media of base\n"
        "└── Container/db (healthy, restart)\n"
        "    └── Network/back\n"
    )


def test_tree_marks_what_was_opened_before(shop: list[Resource]) -> None:
    second = Resource(
        named(Kind.SERVICE, "zed"),
        {},
        dependencies=(Dependency(named(Kind.CONTAINER, "db"), field="dependsOn[Container/db]"),),
    )
    assert picture.tree([*shop, second], unicode=False).endswith(
        "Service/zed\n`-- Container/db ...\n"
    )


def test_tree_of_a_very_long_chain_does_not_recurse() -> None:
    chain = [
        Resource(
            named(Kind.CONTAINER, f"c{i}"),
            {},
            dependencies=(Dependency(named(Kind.CONTAINER, f"c{i + 1}")),) if i < 1999 else (),
        )
        for i in range(2000)
    ]
    assert picture.tree(chain).count("\n") == 2000


def test_dot_is_what_graphviz_reads(shop: list[Resource]) -> None:
    text = picture.dot(shop)
    assert text.startswith('digraph "shop" {')
    assert '"shop/Service/web" -> "shop/Container/db" [label="healthy, restart"];' in text
    assert "style=dashed" in text


def test_mermaid(shop: list[Resource]) -> None:
    text = picture.mermaid(shop)
    assert text.splitlines()[0] == "flowchart LR"
    assert '["Volume/media of base"]' in text
    assert "-->|healthy, restart|" in text


@pytest.mark.parametrize("fmt", ["tree", "dot", "mermaid"])
def test_a_project_without_resources_has_a_picture(fmt: str) -> None:
    assert isinstance(picture.render([], fmt=fmt), bytes)


@pytest.mark.skipif(shutil.which("dot") is None, reason="graphviz is not installed")
@pytest.mark.parametrize(("fmt", "start"), [("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_graphviz_draws(shop: list[Resource], fmt: str, start: bytes) -> None:
    assert picture.render(shop, fmt=fmt).startswith(start)


def test_without_graphviz_the_error_names_the_package(
    shop: list[Resource], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnsupportedHostError, match="no program `dot` on PATH") as caught:
        picture.render(shop, fmt="svg")
    assert "graphviz" in caught.value.hint
    assert caught.value.exit_code == 69


def test_a_failing_graphviz_is_quoted(
    shop: list[Resource], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "dot"
    program.write_text("#!/bin/sh\necho 'no fonts' >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(UnsupportedHostError, match="no fonts"):
        picture.render(shop, fmt="png")
