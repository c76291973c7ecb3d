"""One run says everything that is wrong, and nothing that only follows from it."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from provider.errors import ManifestError
from provider.manifest.document import dotted
from provider.manifest.load import load
from tests.support.documents import API, HEADER, IMAGE, shop, write
from tests.unit.provider.test_compile import ENVIRONMENT, nodes, trees


def doc(kind: str, name: str, rest: str = "") -> str:
    return f"apiVersion: {API}\nkind: {kind}\nmetadata: {{name: {name}}}\n{rest}\n"


def said(folder: Path, *texts: str, **options: Any) -> list[str]:
    """Return the problems of a project with an Image ``app``, without the folder."""
    with pytest.raises(ManifestError) as caught:
        shop(folder, *texts, **options)
    return [str(p).replace(f"{folder}/", "") for p in caught.value.problems]


def paths(folder: Path, *texts: str) -> list[tuple[str, str]]:
    with pytest.raises(ManifestError) as caught:
        shop(folder, *texts)
    return [(p.path, p.message) for p in caught.value.problems]


def messages(folder: Path, files: dict[str, str], **options: Any) -> list[str]:
    write(folder, files)
    with pytest.raises(ManifestError) as caught:
        load([folder], **options)
    return [str(p).replace(f"{folder}/", "") for p in caught.value.problems]


@pytest.mark.parametrize(
    ("spec", "then"),
    [
        ("image: ap", ("spec.container.image", "unknown Image ap")),
        ("image: app, networks: [frnt]", ("spec.container.networks[frnt]", "unknown Network frnt")),
        (
            "image: app, env: {A: {secret: pw, key: k}, 1B: x}",
            ("spec.container.env.A", "unknown Secret pw"),
        ),
        (
            "image: app, volumes: [{volume: dat, target: /d}, {volume: x}]",
            ("spec.container.volumes[/d]", "unknown Volume dat"),
        ),
        (
            "image: app, ulimits: {nofile: {soft: 9, hard: 1}}",
            ("spec.container.ulimits.nofile", "soft limit 9 is above the hard limit 1"),
        ),
        (
            "image: app, volumes: [{bind: /a, target: /d}, {bind: /b, target: /d/}]",
            ("spec.container.volumes[1]", "/d stands here twice"),
        ),
    ],
)
def test_a_document_that_fails_its_schema_is_checked_for_the_rest(
    tmp_path: Path, spec: str, then: tuple[str, str]
) -> None:
    found = paths(
        tmp_path, doc("Service", "web", f"spec: {{replica: 3, container: {{{spec}, tty: maybe}}}}")
    )
    assert ("spec.replica", "unknown field") in found
    assert any(path == "spec.container.tty" for path, _ in found)
    assert any((path, message.split(";")[0]) == then for path, message in found), found


def test_a_document_whose_name_is_not_allowed_is_checked_for_the_rest(tmp_path: Path) -> None:
    body = "spec: {container: {image: nope, networks: [ghost]}, dependsOn: [Job/none]}"
    found = said(tmp_path, doc("Container", "Two_1", body))
    assert [line.split(": ")[1] for line in found] == [
        "metadata.name",
        "spec.container.image",
        "spec.container.networks[ghost]",
        "spec.dependsOn[Job/none]",
    ]


def test_waits_and_hosts_of_a_faulty_document_are_checked(tmp_path: Path) -> None:
    found = paths(
        tmp_path,
        doc(
            "Container",
            "web",
            "spec: {container: {image: app, tty: maybe}, dependsOn: [Job/nothing, {kind: Job}],"
            " hosts: [mars]}",
        ),
    )
    assert [path for path, _ in found] == [
        "spec.container.tty",
        "spec.dependsOn[Job/nothing]",
        "spec.dependsOn[1]",
        "spec.hosts.names[mars]",
    ]


def test_faulty_documents_take_part_in_conflicts(tmp_path: Path) -> None:
    found = paths(
        tmp_path,
        doc("Container", "a", "spec: {container: {image: app, tty: maybe}, publish: [80]}"),
        doc("Container", "b", "spec: {container: {image: app}, publish: [80]}"),
        doc("Network", "n", "spec: {subnet: 10.9.0.0/24, mtu: big}"),
        doc("Network", "m", "spec: {subnet: 10.9.0.0/25}"),
    )
    assert [path for path, _ in found if path] == [
        "spec.container.tty",
        "spec.publish[0.0.0.0:80/tcp]",
        "spec.subnet",
        "spec.mtu",
    ]


def test_faulty_documents_take_part_in_cycles(tmp_path: Path) -> None:
    found = said(
        tmp_path,
        doc("Container", "a", "spec: {container: {image: app, tty: x}, dependsOn: [Container/b]}"),
        doc("Container", "b", "spec: {container: {image: app}, dependsOn: [Container/a]}"),
    )
    assert len(found) == 2
    assert "cycle" in found[1] or "cycle" in found[0]


@pytest.mark.parametrize(
    "texts",
    [
        # Whatever a faulty field might have said, nothing is made of its default.
        ["Service web spec: {replicas: 2, container: {image: app, volumes: [{volume: v, target: /v,"
         " readOnly: sure}]}}", "Volume v"],
        ["Service web spec: {replicas: 2, container: {image: app, volumes: [{volume: v,"
         " target: /v}]}}", "Volume v spec: {sharedWriter: true}"],
        ["Container web spec: {container: {image: app, resources: {memory: 64Q,"
         " memorySwap: 1Mi}}}"],
        ["Container web spec: {container: {image: app, resources: {memoy: 64Mi,"
         " memorySwap: 1Mi}}}"],
        ["Network n spec: {subnet: 10.0.0.0/99, gateway: 10.0.0.1}",
         "Container web spec: {container: {image: app, networks: [{name: n, ip: 10.0.0.9}]}}"],
        ["Network n spec: {internal: true}", "Container web spec: {container: {image: app,"
         " networks: [n, {nam: m}]}, publish: [80]}"],
        ["Config c spec: {data: {a: x, b/: y}}",
         "Container web spec: {container: {image: app, env: {A: {config: c, key: b}}}}"],
        ["Config c spec: {data: {a: 5}}",
         "Container web spec: {container: {image: app, env: {A: {config: c, key: a}}}}"],
        ["Host a metadata-labels", "Container web spec: {container: {image: app},"
         " hosts: {matchLabels: {zone: b}}}"],
        ["Host a spec: {port: big}", "Host b",
         "Container web spec: {container: {image: app}, hosts: [a], publish: [80]}",
         "Container api spec: {container: {image: app}, hosts: [b], publish: [80]}"],
        ["Container web spec: {container: {image: app, networkMode: Host,"
         " networks: [default]}, publish: [80]}"],
        ["Job web spec: {container: {image: app, restart: {policy: Always}}}"],
        ["Container db spec: {container: {image: app}, stat: stopped}",
         "Container web spec: {container: {image: app}, dependsOn: [Container/db]}"],
        ["Container web spec: {container: {image: app, networks: [5]},"
         " dependsOn: [Network/default]}"],
        ["Netwrk front", "Container web spec: {container: {image: app, networks: [front]}}"],
        ["Network Front", "Container web spec: {container: {image: app, networks: [front]}}"],
    ],
)  # fmt: skip
def test_one_mistake_has_no_consequences(tmp_path: Path, texts: list[str]) -> None:
    made = []
    for text in texts:
        kind, name, *rest = text.split(" ", 2)
        body = "".join(rest)
        if body == "metadata-labels":
            made.append(
                f"apiVersion: {API}\nkind: {kind}\nmetadata: {{name: {name}, labels: {{zone: b!}}}}"
            )
        else:
            made.append(doc(kind, name, body))
    found = said(tmp_path, *made)
    assert len(found) == 1, found


WEB = doc("Container", "web", "spec: {container: {image: ap, networks: [front]}}")


def test_a_file_that_does_not_parse_has_no_consequences(tmp_path: Path) -> None:
    found = messages(
        tmp_path,
        {
            "a.yaml": HEADER + "spec: {prune: true\n---\n" + IMAGE,
            "b.yaml": doc("Network", "front", 'spec: {subnet: "10.0.0.0/24}') + "---\n" + WEB,
        },
    )
    assert len(found) == 3, found
    assert found[0].startswith("a.yaml:4:7: the `{` opened here is not closed")
    assert found[1].startswith("b.yaml:4:16: the quote opened here is never closed")
    assert found[2] == ("b.yaml:9:20: spec.container.image: unknown Image ap; did you mean `app`?")


def test_a_template_that_fails_has_no_consequences(tmp_path: Path) -> None:
    found = messages(
        tmp_path,
        {"a.yaml.j2": HEADER + "# {{ nothing }}\n", "b.yaml": WEB, "c.yaml": doc("Job", "j")},
    )
    assert [line.split(";")[0] for line in found] == [
        "a.yaml.j2:4:6: `nothing` is undefined",
        "c.yaml:1:1: `spec` is missing",
    ]


def test_an_unreadable_file_or_an_unnamed_project_has_no_consequences(tmp_path: Path) -> None:
    write(tmp_path, {"web.yaml": WEB})
    with pytest.raises(ManifestError) as caught:
        load([tmp_path / "web.yaml", tmp_path / "rest.yaml"])
    assert [p.message for p in caught.value.problems] == ["no such file or folder"]
    found = messages(
        tmp_path, {"project.yaml": f"apiVersion: {API}\nkind: Project\nmetadata: {{}}"}
    )
    assert "no project is named" not in "".join(found)


@pytest.mark.parametrize("kind", ["Projekt", "5"])
def test_a_document_of_unknown_kind_may_be_the_project(tmp_path: Path, kind: str) -> None:
    found = messages(tmp_path, {"a.yaml": HEADER.replace("Project", kind)})
    assert len(found) == 1, found


def test_an_overlay_over_a_broken_file_has_no_consequences(tmp_path: Path) -> None:
    over = f"apiVersion: {API}\nkind: Container\nmetadata: {{name: %s}}\nspec: {{state: stopped}}\n"
    write(tmp_path, {"base/a.yaml": HEADER + "---\n" + WEB + ": ["})
    write(tmp_path, {"prod/a.yaml": over % "web" + "---\n" + over % "other"})
    with pytest.raises(ManifestError) as caught:
        load([tmp_path / "base"], overlays=[tmp_path / "prod"])
    assert [p.path for p in caught.value.problems] == ["", "metadata.name"]
    assert "Container/other" in caught.value.problems[1].message


def test_values_that_cannot_be_read_make_no_names_undefined(tmp_path: Path) -> None:
    write(tmp_path, {"a.yaml.j2": HEADER + "# {{ replicas }}\n", "values": "[]"})
    with pytest.raises(ManifestError) as caught:
        load([tmp_path], values=[tmp_path / "values"])
    assert [p.message for p in caught.value.problems] == ["a values file must hold a mapping"]
    with pytest.raises(ManifestError) as caught:
        load([tmp_path], values=[tmp_path / "gone"])
    assert [p.message for p in caught.value.problems] == ["no such file or folder"]


def test_content_of_faulty_configs_is_looked_at(tmp_path: Path) -> None:
    found = said(tmp_path, doc("Config", "c", "spec: {templat: no, data: {a: {file: gone}}}"))
    assert len(found) == 2, found


SHOP = Path(__file__).parents[2] / "golden" / "manifests" / "shop"


@pytest.mark.parametrize("way", ["value", "name"])
def test_a_wrong_value_anywhere_is_all_that_is_wrong(
    monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.chdir(SHOP)
    documents = trees("shop")
    strangers = []
    for path in nodes(documents):
        if len(path) < 2:
            continue
        damaged = copy.deepcopy(documents)
        parent: Any = damaged
        for step in path[:-1]:
            parent = parent[step]
        if way == "value":
            parent[path[-1]] = [[5]]
        elif isinstance(parent, dict):
            parent[f"{path[-1]}!"] = parent.pop(path[-1])
        text = "".join(f"---\n{json.dumps(document)}\n" for document in damaged)
        try:
            load(["-"], stdin=text.encode(), env=ENVIRONMENT)
        except ManifestError as error:
            line, around = 2 * path[0] + 2, dotted(path[1:-1])
            strangers += [
                (path, str(problem))
                for problem in error.problems
                if not problem.origin
                or problem.origin.line != line
                or not problem.path.startswith(around)
            ]
    assert strangers == []
