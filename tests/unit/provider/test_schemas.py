"""The schemas against what they stand for: the standard, the typed views, the model."""

import dataclasses
import re
import typing
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

import schemas
from provider.model import specs
from provider.model.codec import camel
from provider.model.ids import Kind
from provider.model.plan import SCHEMA, Consequence, Verb
from provider.model.resource import Condition, Dependency, Effect
from provider.model.units import parse_cpus, parse_duration, parse_size

UNITS = {"bytes": parse_size, "seconds": parse_duration, "cores": parse_cpus}
LIFTED = {"dependsOn", "hosts", "lifecycle"}
"""Members of ``spec`` that the compiler lifts out of it, into the Resource."""
OBJECTS = {kind: getattr(specs, kind) for kind in schemas.KINDS}


def nodes(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every subschema that describes a value, with its path."""
    if not isinstance(node, dict):
        return
    yield path, node
    for keyword in ("properties", "$defs"):
        for name, child in node.get(keyword, {}).items():
            yield from nodes(child, f"{path}/{keyword}/{name}")
    for keyword in ("items", "additionalProperties", "propertyNames"):
        yield from nodes(node.get(keyword), f"{path}/{keyword}")


def properties(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, node in nodes(schemas.load(name)):
        for member, child in node.get("properties", {}).items():
            yield f"{path}/{member}", child


def resolved(root: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    while True:
        merged = {**node, **merged}
        if "$ref" not in node:
            return merged
        node = schemas.resolve(root, node["$ref"])


@pytest.mark.parametrize("name", schemas.names())
class TestEverySchema:
    def test_is_a_schema(self, name: str) -> None:
        jsonschema.Draft202012Validator.check_schema(schemas.load(name))

    def test_describes_every_property(self, name: str) -> None:
        missing = [path for path, node in properties(name) if not node.get("description")]
        assert not missing

    def test_descriptions_are_sentences(self, name: str) -> None:
        odd = [
            path
            for path, node in nodes(schemas.load(name))
            if "description" in node and not re.match(r"[A-Z`].*[.]\Z", node["description"])
        ]
        assert not odd

    def test_objects_are_closed(self, name: str) -> None:
        open_objects = [
            path
            for path, node in nodes(schemas.load(name))
            if "properties" in node
            and node.get("additionalProperties") is not False
            and node.get("unevaluatedProperties") is not False
        ]
        allowed = {"manifest": [""], "report": ["/$defs/planned"]}
        assert open_objects == allowed.get(name, [])

    def test_patterns_match_whole_values(self, name: str) -> None:
        patterns = [node["pattern"] for _, node in nodes(schemas.load(name)) if "pattern" in node]
        assert all(p.startswith("^") and p.endswith("$") for p in patterns)
        # A dot and \d mean different things to different engines.
        assert not [p for p in patterns if re.search(r"\\[dwsWDSb]", p)]

    def test_bundle_refers_to_itself_only(self, name: str) -> None:
        bundle = schemas.bundle(name)
        text = repr(bundle)
        for reference in re.findall(r"'\$ref': '([^']*)'", text):
            assert schemas.resolve(bundle, reference)
        assert "urn:" not in text


@pytest.mark.parametrize("name", [kind.lower() for kind in schemas.KINDS] + ["container-spec"])
def test_every_list_says_how_it_is_merged(name: str) -> None:
    root = schemas.bundle(name)
    for path, node in nodes(root):
        if "items" not in node or path.startswith("/$defs/report"):
            continue
        assert node.get("x-list") in ("atomic", "set", "map"), path
        assert ("x-key" in node) == (node["x-list"] == "map"), path
        item = resolved(root, node["items"])
        assert set(node.get("x-key", ())) <= set(item.get("properties", {})), path
        assert node["x-list"] != "set" or node["uniqueItems"], path


def test_one_schema_per_kind() -> None:
    assert tuple(Kind) == schemas.KINDS
    assert {kind.lower() for kind in schemas.KINDS} < set(schemas.names())


def test_unknown_schema() -> None:
    for name in ("nonsense", "../pyproject", ""):
        with pytest.raises(KeyError):
            schemas.load(name)


class TestSkew:
    """Fields and defaults are those of provider.model.specs, both ways."""

    @pytest.mark.parametrize("kind", schemas.KINDS)
    def test_kind(self, kind: str) -> None:
        root = schemas.bundle(kind.lower())
        spec = resolved(root, root["properties"]["spec"])
        self.compare(root, spec, OBJECTS[kind], kind)

    def compare(self, root: dict[str, Any], node: dict[str, Any], cls: type, path: str) -> None:
        hints = typing.get_type_hints(cls)
        fields = {camel(field.name): field for field in dataclasses.fields(cls)}
        names = set(node["properties"]) - (LIFTED if "." not in path else set())
        assert names == set(fields), path
        for name, field in fields.items():
            member = resolved(root, node["properties"][name])
            where = f"{path}.{name}"
            self.compare_default(member, field, name in node.get("required", ()), where)
            nullable = type(None) in typing.get_args(hints[field.name])
            assert nullable == ("null" in member["type"]) or "x-default" in member, where
            self.descend(root, member, hints[field.name], where)

    def compare_default(
        self, member: dict[str, Any], field: Any, required: bool, where: str
    ) -> None:
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        else:
            default = field.default
        if default is dataclasses.MISSING:
            assert required or "x-default" in member, where
            assert "default" not in member, where
            return
        assert not required, where
        if isinstance(default, tuple):
            default = list(default)
        if dataclasses.is_dataclass(default):
            assert default == type(default)(), where
            default = {}
        written = member["default"]
        unit = member.get("x-unit")
        if unit and written is not None:
            written = UNITS[unit](written)
        assert written == default, where

    def descend(self, root: dict[str, Any], member: dict[str, Any], hint: Any, where: str) -> None:
        if dataclasses.is_dataclass(hint):
            self.compare(root, member, typing.cast(type, hint), where)
            return
        for argument in typing.get_args(hint):
            if typing.get_origin(hint) is tuple:
                if argument is not Ellipsis:
                    self.descend(root, resolved(root, member["items"]), argument, f"{where}[]")
            elif typing.get_origin(hint) is dict:
                if dataclasses.is_dataclass(argument):
                    values = resolved(root, member["additionalProperties"])
                    self.descend(root, values, argument, f"{where}[]")
            else:
                self.descend(root, member, argument, where)

    def test_depends_on(self) -> None:
        item = schemas.load("common")["$defs"]["dependsOn"]["items"]["properties"]
        fields = {field.name: field.default for field in dataclasses.fields(Dependency)}
        assert parse_duration(item["timeout"]["default"]) == fields["timeout_s"]
        assert item["condition"]["enum"] == list(Condition)
        assert item["condition"]["default"] == fields["condition"]
        assert item["effect"]["enum"] == list(Effect)
        assert item["effect"]["default"] == fields["effect"]

    @pytest.mark.parametrize("name", ["plan", "report"])
    def test_plan_and_report(self, name: str) -> None:
        planned = schemas.load("report")["$defs"]["planned"]["properties"]
        assert set(Verb) <= set(planned["action"]["enum"])
        assert planned["consequence"]["enum"] == list(Consequence)
        assert planned["kind"]["enum"] == list(Kind)
        assert schemas.load("plan")["properties"]["schema"]["const"] == SCHEMA


def validator(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schemas.bundle(name))


def resource(**more: Any) -> dict[str, Any]:
    return {
        "id": "Service/web[0]",
        "project": "shop",
        "kind": "Service",
        "name": "web",
        "host": "local",
        "index": 0,
        "action": "update",
        "consequence": "restart",
        "changed": True,
        "reason": "manifest changed",
        "source": {"file": "web.yaml", "line": 3, "column": 1},
        "diff": [
            {
                "path": "container.env.A",
                "before": "1",
                "after": "2",
                "sensitive": False,
                "provenance": "manifest",
            }
        ],
        "warnings": [],
        **more,
    }


def plan(*resources: dict[str, Any], **more: Any) -> dict[str, Any]:
    counted = ("noop", "create", "update", "delete", "run", "failed", "skipped")
    return {
        "schema": "bayplan/plan/v1alpha1",
        "project": "shop",
        "changed": True,
        "fingerprint": "sha256:0",
        "hosts": ["local"],
        "summary": dict.fromkeys(counted, 0),
        "resources": list(resources),
        "kept": [],
        "refusals": [],
        "warnings": [],
        **more,
    }


def report(*resources: dict[str, Any]) -> dict[str, Any]:
    document = plan(*resources, schema="bayplan/report/v1alpha1", failed=False, revision=1)
    del document["fingerprint"]
    return document | {"errors": []}


def test_plan_and_report_documents() -> None:
    done = resource(outcome="ok", error=None, durationMs=12)
    assert validator("plan").is_valid(plan(resource()))
    assert validator("report").is_valid(report(done))
    assert not validator("report").is_valid(report(resource()))
    assert not validator("plan").is_valid(plan(resource(surprise=1)))
    assert not validator("report").is_valid(report(done | {"surprise": 1}))


def test_sensitive_values_cannot_be_in_a_plan() -> None:
    change = {"path": "a", "before": None, "sensitive": True, "provenance": "manifest"}
    shown, hidden = change | {"after": "hunter2"}, change | {"after": "(sensitive)"}
    assert validator("plan").is_valid(plan(resource(diff=[hidden])))
    assert not validator("plan").is_valid(plan(resource(diff=[shown])))
