"""What the cache keeps of a resource is all of it."""

import dataclasses
import json

import pytest

from provider.errors import Origin
from provider.manifest.compiled import Compiled, SecretSource
from provider.manifest.stored import restore, store
from provider.model.ids import Kind, ResourceId
from provider.model.resource import Condition, Dependency, Desired, Effect, Resource
from provider.model.secret import SecretValue

WEB = ResourceId("shop", Kind.SERVICE, "web")
RESOURCE = Resource(
    id=WEB,
    spec={"replicas": 2},
    labels={"tier": "front"},
    annotations={"owner": "me"},
    former_name="www",
    dependencies=(
        Dependency(
            ResourceId("base", Kind.JOB, "migrate"),
            condition=Condition.COMPLETED,
            timeout_s=3.5,
            effect=Effect.RECREATE,
            field="dependsOn[Job/migrate]",
        ),
    ),
    hosts=("a", "b"),
    prevent_destroy=True,
    prune=False,
    ignore=("container.env",),
    origin=Origin("a.yaml", 3, 1, "loop item 2"),
    provenance={"replicas": Origin("b.yaml", 7, 3, "overlay prod")},
)


def test_every_field_comes_back() -> None:
    required = {"id", "spec"}
    for field in dataclasses.fields(Resource):
        if field.name not in required:
            default = (
                field.default
                if field.default is not dataclasses.MISSING
                else field.default_factory()  # type: ignore[misc]
            )
            assert getattr(RESOURCE, field.name) != default, f"give {field.name} a value here"
    source = SecretSource("/shop", "key.txt", {"k": {"file": "k.txt"}})
    compiled = Compiled(
        Desired("shop", (RESOURCE,), prune=False, sources=("a.yaml",)), {WEB: source}
    )
    again = restore(json.loads(json.dumps(store(compiled))))
    assert again == compiled
    (resource,) = again.desired.resources
    assert str(resource.origin) == "a.yaml:3:1 (loop item 2)"
    assert {p: str(o) for p, o in resource.provenance.items()} == {
        "replicas": "b.yaml:7:3 (overlay prod)"
    }


def test_secret_values_are_refused() -> None:
    with pytest.raises(ValueError, match="secret values"):
        store(Compiled(Desired("shop", ()), values={WEB: {"k": SecretValue(b"x")}}))
