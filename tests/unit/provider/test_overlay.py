"""Strategic merge of overlays."""

from typing import Any

import pytest

from provider.manifest.document import Document
from provider.manifest.normalise import normalise
from provider.manifest.overlay import merge_overlay
from tests.support.documents import FOLDER, document, documents

API = "apiVersion: bayplan/v1alpha1"


def merged(base: Any, patch: Any, *, kind: str = "Service") -> Document:
    (result,), problems = merge_overlay(
        [document(kind, base)], [document(kind, patch)], folder="prod"
    )
    assert not problems
    return result


def spec(base: Any, patch: Any, *, kind: str = "Service") -> Any:
    found = merged({"container": {"image": "app"}} | base, patch, kind=kind)
    result, problems = normalise(found, project="shop", folder=FOLDER)
    assert not problems
    return result.spec


def container(base: Any, patch: Any) -> Any:
    whole = {"container": {"image": "app"} | base}
    return spec(whole, {"container": patch})["container"]


def test_objects_merge_member_by_member() -> None:
    resources = container(
        {"resources": {"memory": "64Mi", "cpus": 1}}, {"resources": {"memory": "128Mi"}}
    )["resources"]
    assert (resources["memory"], resources["cpus"]) == (128 << 20, 1.0)


def test_null_takes_away() -> None:
    assert container({"user": "redis"}, {"user": None})["user"] is None
    assert container({"env": {"A": "1", "B": "2"}}, {"env": {"A": None}})["env"].keys() == {"B"}
    assert container({"shmSize": "1Gi"}, {"shmSize": None})["shmSize"] == 64 << 20
    assert spec({"publish": [80]}, {"publish": None})["publish"] == []


def test_null_is_set_where_it_is_a_setting() -> None:
    assert (
        container({"resources": {"pids": 5}}, {"resources": {"pids": None}})["resources"]["pids"]
        is None
    )


def test_atomic_lists_are_replaced() -> None:
    assert container({"command": ["a", "b"]}, {"command": ["c"]})["command"] == ["c"]


def test_sets_are_united() -> None:
    capabilities = container(
        {"capabilities": {"add": ["SYS_TIME"]}}, {"capabilities": {"add": ["CAP_NET_ADMIN"]}}
    )["capabilities"]
    assert capabilities["add"] == ["NET_ADMIN", "SYS_TIME"]


def test_maps_merge_by_key_whatever_the_form() -> None:
    networks = container(
        {"networks": ["back", "front"]},
        {"networks": [{"name": "back", "aliases": ["db"]}, "extra"]},
    )["networks"]
    assert [(n["name"], n["aliases"]) for n in networks] == [
        ("back", ["db"]),
        ("extra", []),
        ("front", []),
    ]
    assert container({"networks": [{"name": "back", "aliases": ["db"]}]}, {"networks": ["back"]})[
        "networks"
    ][0]["aliases"] == ["db"]


def test_published_ports_merge_by_what_they_publish() -> None:
    publish = spec(
        {"publish": ["8080:80", "9090:90"]},
        {"publish": [{"port": 8080, "targetPort": 81}, "127.0.0.1:8080:82"]},
    )["publish"]
    assert [(p["ip"], p["port"], p["targetPort"]) for p in publish] == [
        ("0.0.0.0", 8080, 81),
        ("0.0.0.0", 9090, 90),
        ("127.0.0.1", 8080, 82),
    ]


def test_mounts_merge_by_target_in_its_canonical_form() -> None:
    (mount,) = container(
        {"volumes": [{"target": "/data/", "volume": "v"}]},
        {"volumes": [{"target": "//data", "readOnly": True}]},
    )["volumes"]
    assert (mount["volume"], mount["readOnly"]) == ("v", True)


def test_one_of_several_members_replaces_the_other() -> None:
    (mount,) = container(
        {"volumes": [{"target": "/data", "volume": "v"}]},
        {"volumes": [{"target": "/data", "tmpfs": {}}]},
    )["volumes"]
    assert (mount["volume"], mount["tmpfs"]["mode"]) == (None, "1777")
    variable = container({"env": {"A": "x"}}, {"env": {"A": {"secret": "s", "key": "k"}}})["env"][
        "A"
    ]
    assert variable == {"value": None, "secret": "s", "config": None, "key": "k"}
    health = container(
        {"health": {"http": {"port": 1}, "retries": 9}}, {"health": {"tcp": {"port": 2}}}
    )
    assert health["health"]["http"] is None
    assert health["health"]["retries"] == 9


def test_a_short_form_replaces_an_object() -> None:
    assert (
        container({"restart": {"policy": "no", "backoff": "9s"}}, {"restart": "always"})["restart"][
            "backoff"
        ]
        == 0.1
    )
    assert (
        container({"restart": "on-failure"}, {"restart": {"maxRetries": 2}})["restart"]["policy"]
        == "on-failure"
    )


def test_numbers_keep_the_text_they_were_written_with() -> None:
    found = merged("container: {image: app, env: {A: 1.10}}", "container: {env: {B: 2.20}}")
    result, _ = normalise(found, project="shop", folder=FOLDER)
    env = result.spec["container"]["env"]
    assert (env["A"]["value"], env["B"]["value"]) == ("1.10", "2.20")


def test_places_say_which_overlay() -> None:
    found = merged(
        "container: {image: app, env: {A: a}}\nreplicas: 1",
        "replicas: 5\ncontainer: {env: {B: b}, networks: [back]}",
    )
    result, _ = normalise(found, project="shop", folder=FOLDER)
    assert str(result.provenance["replicas"]) == "shop.yaml:5:3 (overlay prod)"
    assert str(result.provenance["container.env.B"]) == "shop.yaml:6:21 (overlay prod)"
    assert str(result.provenance["container.networks[back]"]).endswith("(overlay prod)")
    assert str(result.provenance["container.env.A"]) == "shop.yaml:5:33"


def test_labels_of_the_base_stay() -> None:
    (found,), _ = merge_overlay(
        [document("Volume", name="v", metadata={"labels": {"a": "1"}})],
        [document("Volume", name="v", metadata={"labels": {"b": "2"}})],
        folder="prod",
    )
    assert found.tree["metadata"]["labels"] == {"a": "1", "b": "2"}


def test_an_overlay_over_nothing_is_a_problem_with_a_suggestion() -> None:
    base = documents(f"{API}\nkind: Volume\nmetadata: {{name: media}}\n")
    patches = documents(
        f"{API}\nkind: Volume\nmetadata: {{name: meda}}\n---\n{API}\nkind: Volume\n", "over.yaml"
    )
    result, problems = merge_overlay(base, patches, folder="prod")
    assert result == base
    assert [str(problem) for problem in problems] == [
        "over.yaml:3:12 (overlay prod): metadata.name: the manifests define no Volume/meda to lay "
        "this over; did you mean `Volume/media`?",
        "over.yaml:5:1 (overlay prod): an overlay document needs kind and metadata.name",
    ]


@pytest.mark.parametrize(
    "patch",
    [
        {"container": {"volumes": [7]}},
        {"container": {"volumes": [{"readOnly": True}]}},
        {"publish": ["nonsense"]},
        {"publish": [[1]]},
        {"container": 5},
        {"container": {"env": [1]}},
    ],
)
def test_nonsense_is_left_to_the_schema(patch: Any) -> None:
    base = {
        "container": {
            "image": "a",
            "env": {"A": "b"},
            "volumes": [{"target": "/a", "volume": "v"}],
        },
        "publish": [80],
    }
    assert merged(base, patch).kind == "Service"
