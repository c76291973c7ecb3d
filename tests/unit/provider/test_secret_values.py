"""Nothing that a value from --secret-values went into is ever shown, wherever it is written.

A canary is put into every field of every kind, in several spellings, and looked for in all that
the commands say.
"""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from provider.cli.app import run
from tests.support import fields
from tests.support.documents import API, write

VALUES = {
    "name": "canary-x",
    "words": "ZZ_Canary zz",
    "number": 7319447,
    "address": "10.73.194.47",
    "subnet": "10.73.0.0/16",
    "path": "/canary/path",
    "template": "{{ canary }} {% canary %}",
}
SPOKEN = ("canary", "7319447", "10.73.")
"""What is in no output, in lower case."""

OPTIONS: list[str] = []
"""Of all commands."""

WAYS = (
    *(f"{{{{ {name} }}}}" for name in ("address", "subnet", "path", "template")),
    "x{{ name }}",
    "/{{ name }}",
    "{{ name | upper }}",
    "Container/{{ name }}",
    "Container/{{ words }}",
    "container/{{ name }}",
    "{{ number }}:80",
    "{{ address }}:80:80",
    "{{ name }}/{{ name }}:80",
    "{{ path }}:/data:ro",
    "80,{{ number }}-1",
    "{{ name }}=1",
)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BAYPLAN_ROOT", str(tmp_path / "root"))
    write(tmp_path, {"s.yaml": json.dumps(VALUES), "motd": "hello\n"})
    return tmp_path


def said(monkeypatch: pytest.MonkeyPatch, verb: str, *words: str) -> tuple[int, str]:
    """Return the exit code of a verb and all that it writes."""
    out = io.TextIOWrapper(io.BytesIO(), write_through=True)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", out)
        inputs = ["-f", "a.yaml.j2", "--secret-values", "s.yaml", *OPTIONS]
        code = run([verb, *inputs, *words])
    return code, out.buffer.getvalue().decode()  # type: ignore[attr-defined]  # a BytesIO


def template(*trees: Any) -> str:
    """Return documents as a template; JSON has no braces in its texts but those put there."""
    text = "\n---\n".join(json.dumps(tree) for tree in trees)
    # Not in quotes, it is what it is.
    return text.replace('"{{ number }}"', "{{ number }}").replace('"OBJECT"', "{{ {v ~ 'x': 1} }}")


def narrowed(tree: Any, path: fields.Path) -> Any:
    """Return *tree* with no more of its spec than what *path* leads through, and is asked for."""
    needed = {"image", "container", "data", "allowPlaintext", "host"}
    for depth in (1, 2):
        part = fields.at(tree, path[:depth]) if len(path) > depth else None
        if isinstance(part, dict) and path[:depth] in (("spec",), ("spec", "container")):
            kept = {k: v for k, v in part.items() if k in needed or k == path[depth]}
            tree = fields.put(tree, path[:depth], kept)
    return tree


def tainted(tree: Any, path: fields.Path) -> list[Any]:
    """Return documents like *tree* with secrets at *path*, in all ways that might be looked at."""
    tree, old = narrowed(tree, path), fields.at(tree, path)
    ways: list[Any] = ["{{ name }}", "{{ words }}", "{{ number }}"]
    ways += [["{{ name }}", "{{ name }}"], {"name": "{{ name }}"}, {"{{ name | upper }}": 1}]
    if isinstance(old, str):
        ways += [*WAYS, f"{old}{{{{ name }}}}"]
    elif isinstance(old, list):
        ways += [[*old, "{{ name }}"], [*old, {"{{ name }}": 1}]]
    elif isinstance(old, dict):
        ways += [old | {"{{ name }}": 1}, old | {"{{ name | upper }}": "{{ name }}"}]
    found = [fields.put(tree, path, way) for way in ways]
    for number, copied in enumerate(found):
        if path not in (("metadata",), ("metadata", "name")):
            copied["metadata"]["name"] = f"t{number}"
        if path not in (("metadata",), ("metadata", "formerName")):
            copied["metadata"].pop("formerName", None)
    return found


def is_shared(tree: Any, path: fields.Path) -> bool:
    """Return whether another kind has the same at *path*, and is looked at."""
    about = path[:1] in (("apiVersion",), ("metadata",)) or path[:2] == ("spec", "lifecycle")
    return (about and tree["kind"] not in ("Project", "Container")) or (
        tree["kind"] in ("Service", "Job") and path[:2] == ("spec", "dependsOn")
    )


PLACES = [
    pytest.param(tree, path, id=f"{tree['kind']}-{tree['metadata']['name']}-{fields.path_id(path)}")
    for tree in (fields.project(), *fields.documents())
    for path in fields.places(tree)
    if not is_shared(tree, path)
]


def test_every_field_is_among_the_places() -> None:
    used: dict[str, set[str]] = {}
    for tree in (fields.project(), *fields.documents()):
        kind = tree["kind"]
        found = {fields.pattern(kind, path) for path in fields.places(tree)}
        used[kind] = used.get(kind, set()) | found
    for kind, found in used.items():
        alike = set() if kind == "Container" else used["Container"]
        assert sorted(fields.fields(kind) - found - alike) == [], kind


@pytest.mark.parametrize(("tree", "path"), PLACES)
def test_no_field_shows_it(
    world: Path, monkeypatch: pytest.MonkeyPatch, tree: Any, path: fields.Path
) -> None:
    ground = [fields.project(), *fields.documents()]
    write(world, {"a.yaml.j2": template(*ground, *tainted(tree, path))})
    for words in (["validate", "-o", "json"],):
        _, text = said(monkeypatch, *words)
        shown = [line for line in text.splitlines() if any(w in line.lower() for w in SPOKEN)]
        assert shown == []


def documents(*specs: tuple[str, str, Any]) -> list[Any]:
    """Return documents of kind, name and spec, after those of a project with an Image."""
    about = [("Image", "app", {"host": {"programs": ["/bin/true"]}}), *specs]
    return [fields.project()] + [
        {"apiVersion": API, "kind": kind, "metadata": {"name": name}, "spec": spec}
        for kind, name, spec in about
    ]


@pytest.mark.parametrize(
    "words",
    [
        ["validate"],
        ["validate", "-o", "json"],
        ["normalize"],
        ["normalize", "-o", "jsonl"],
        ["graph"],
        ["graph", "-o", "json"],
        ["graph", "-o", "dot"],
        ["plan"],
        ["plan", "-o", "json"],
        ["plan", "-o", "jsonl"],
    ],
    ids=" ".join,
)
def test_where_they_may_stand_they_are_not_shown(
    world: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    used = {name: f"{{{{ {name} }}}}" for name in VALUES}
    env = {name: text for name, text in used.items()} | {"V": {"value": "a{{ words | upper }}"}}
    trees = documents(
        ("Container", "web", {"container": {"image": "app", "env": env, "secrets": ["s"]}}),
        ("Job", "once", {"container": {"image": "app", "env": {"A": "{{ name[:8] }}"}}}),
        ("Secret", "s", {"data": {name: {"text": text} for name, text in used.items()}}),
        ("Config", "c", {"data": used | {"t": {"text": "{{ name }}"}}}),
        ("Config", "t", {"data": {"t": {"file": "motd"}, "x": "1"}, "template": True}),
    )
    write(world, {"a.yaml.j2": template(*trees), "motd": "{{ name }} {{ number }}"})
    code, text = said(monkeypatch, *words)
    assert code == 0, text
    assert [line for line in text.splitlines() if any(w in line.lower() for w in SPOKEN)] == []


def wrong(world: Path, monkeypatch: pytest.MonkeyPatch, *trees: Any, **values: Any) -> list[str]:
    """Return what validate says about *trees* with secret *values*, without the places."""
    write(world, {"a.yaml.j2": template(*trees), "s.yaml": json.dumps(values)})
    code, text = said(monkeypatch, "validate")
    assert code == 65, text
    return [line.partition(": ")[2].partition(": ")[2] for line in text.splitlines()]


SHOWN = (
    "a value from --secret-values would be shown and recorded here; expected secret values only "
    "in env, and in data of a Config or Secret"
)


@pytest.mark.parametrize("value", ["a", "app", "default", "Container", "unknown", "1", "x" * 300])
def test_one_mistake_is_one_problem_whatever_the_value(
    world: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """Short values and ordinary words neither leak nor take words out of what is said."""
    trees = documents(
        ("Container", "web", {"container": {"image": "ap", "networks": ["{{ v }}"]}}),
        ("Network", "{{ v }}", {}),
        ("Container", "x", {"container": {"image": "app"}, "dependsOn": ["Container/{{ v }}"]}),
    )
    assert wrong(world, monkeypatch, *trees, v=value) == [
        f"spec.container.networks[0]: {SHOWN}",
        "spec.container.image: unknown Image ap; did you mean `app`?",
        f"metadata.name: {SHOWN}",
        f"spec.dependsOn[0]: {SHOWN}",
    ]


def test_what_depends_on_one_as_a_whole(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trees = documents(("Volume", "v", {"uid": "OBJECT"}), ("Volume", "w", {"{{ v }}x": 1}))
    depends = "what stands here depends on --secret-values, and would show a value of them"
    assert wrong(world, monkeypatch, *trees, v="canary") == [
        f"spec.uid: {depends}; {SHOWN.partition('; ')[2]}",
        "a secret value cannot be a key",
    ]


def test_one_is_not_shown_as_a_template(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trees = documents(("Config", "c", {"data": {"k": "{{ v }}"}, "template": True}))
    fault = "the template, which a value from --secret-values went into, cannot be rendered"
    assert wrong(world, monkeypatch, *trees, v="{{ canary }}") == [f"spec.data.k: {fault}"]


def test_an_overlay_hides_them_too(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    container = {"image": "{{ v }}", "networks": ["{{ v }}"], "env": {"A": "{{ v }}", "B": "b"}}
    trees = documents(
        ("Container", "web", {"container": container, "publish": ["{{ v }}"]}),
        ("Network", "net", {}),
    )
    over = {"image": {"name": "app"}, "networks": ["net", "{{ v }}"], "env": {"B": "{{ v }}"}}
    spec = {"container": over, "dependsOn": ["{{ v }}"], "publish": [80]}
    patch = documents(("Container", "web", spec), ("Container", "{{ v }}", {}))[2:]
    write(world, {"over/a.yaml.j2": template(*patch)})
    monkeypatch.setattr(sys.modules[__name__], "OPTIONS", ["--overlay", "over"])
    assert wrong(world, monkeypatch, *trees, v="canary") == [
        f"spec.container.networks[0]: {SHOWN}",
        f"spec.publish[0]: {SHOWN}",
        f"spec.container.networks[2]: {SHOWN}",
        f"spec.dependsOn[0]: {SHOWN}",
        f"metadata.name: {SHOWN}",
    ]
