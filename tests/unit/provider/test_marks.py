"""The table of list marks says what the schemas say."""

import pytest

import schemas
from provider.model.ids import Kind
from provider.planning.marks import LIST_MARKS, SET, key_of

OURS = {"backends", "dependsOn"}
"""Lists of effective specs; dependsOn is lifted out of the spec before."""

KINDS = [Kind.CONTAINER, Kind.SERVICE, Kind.JOB, Kind.NETWORK, Kind.VOLUME, Kind.IMAGE]


def marks(schema, whole, at=""):
    """Yield pattern -> mark for every list below a schema, following references."""
    if "$ref" in schema:
        target = whole
        for key in schema["$ref"].removeprefix("#/").split("/"):
            target = target[key.replace("~1", "/")]
        schema = target | {k: v for k, v in schema.items() if k != "$ref"}
    if "x-list" in schema:
        yield at, (schema["x-list"], tuple(schema.get("x-key", ())))
    for name, member in schema.get("properties", {}).items():
        yield from marks(member, whole, f"{at}.{name}" if at else name)
    for member in ("items", "additionalProperties"):
        if isinstance(schema.get(member), dict):
            yield from marks(schema[member], whole, f"{at}.*")


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_marks_are_those_of_the_schemas(kind):
    schema = schemas.bundle(kind.lower())
    spec = schema["properties"]["spec"]
    outside = ("dependsOn", "hosts", "lifecycle")
    found = {
        path: mark
        for path, mark in marks(spec, schema)
        if path.split(".")[0] not in outside and mark[0] != "atomic"
    }
    expected = {path: ("map", key) if key else ("set", ()) for path, key in LIST_MARKS.items()}
    assert {p: expected.get(p) for p in found} == found
    mine = {p for p in LIST_MARKS if p.split(".")[0] in spec["properties"]} - OURS
    assert mine == found.keys()


@pytest.mark.parametrize(
    ("item", "mark", "key"),
    [
        ("a", SET, "a"),
        ({"target": "/d"}, ("target",), "/d"),
        ({"kind": "Job", "name": "x"}, ("kind", "name"), "Job/x"),
        (
            {"ip": "0.0.0.0", "port": 80, "protocol": "tcp"},
            ("ip", "port", "protocol"),
            "0.0.0.0:80/tcp",
        ),
    ],
)
def test_keys_in_paths(item, mark, key):
    assert key_of(item, mark) == key
