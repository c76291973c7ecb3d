"""Resources in one line each, as the compiler would make them, for tests below the manifests."""

from collections.abc import Mapping
from typing import Any

from provider.errors import Origin
from provider.model import specs
from provider.model.codec import encode
from provider.model.ids import InstanceId, Kind, ResourceId
from provider.model.resource import Condition, Dependency, Desired, Effect, Resource
from provider.model.secret import SecretValue
from provider.model.tree import fingerprint

PROJECT = "shop"
KEY = b"test key"


def rid(kind: Kind, name: str, project: str = PROJECT) -> ResourceId:
    return ResourceId(project, kind, name)


def iid(kind: Kind, name: str, index: int = -1, host: str = "local") -> InstanceId:
    return InstanceId(rid(kind, name), host, index)


def wait_for(
    kind: Kind,
    name: str,
    condition: Condition = Condition.STARTED,
    effect: Effect = Effect.ORDER,
    timeout_s: float = 5.0,
) -> Dependency:
    """Return an entry of ``dependsOn``."""
    return Dependency(rid(kind, name), condition, timeout_s, effect, f"dependsOn[{kind}/{name}]")


def resource(kind: Kind, name: str, spec: Any, **more: Any) -> Resource:
    """Return a resource; edges to what its container refers to are added to *dependencies*."""
    tree = spec if isinstance(spec, dict) else encode(spec)
    waits = more.pop("dependencies", ())
    references = tuple(_references(tree["container"])) if "container" in tree else ()
    origin = Origin("shop.yaml", 1, 1)
    return Resource(
        rid(kind, name), tree, dependencies=(*references, *waits), origin=origin, **more
    )


def _references(tree: Mapping[str, Any]) -> Any:
    image = tree["image"]
    yield Dependency(rid(Kind.IMAGE, image["name"], image["project"] or PROJECT))
    for network in tree["networks"]:
        yield Dependency(rid(Kind.NETWORK, network["name"], network["project"] or PROJECT))
    for mount in tree["volumes"]:
        if mount["volume"]:
            yield Dependency(rid(Kind.VOLUME, mount["volume"], mount["project"] or PROJECT))
    for kind, member in ((Kind.CONFIG, "configs"), (Kind.SECRET, "secrets")):
        for file in tree[member]:
            yield Dependency(rid(kind, file["name"]))
    for value in tree["env"].values():
        if value["secret"]:
            yield Dependency(rid(Kind.SECRET, value["secret"]))
        if value["config"]:
            yield Dependency(rid(Kind.CONFIG, value["config"]))


def container_spec(image: str = "base", **fields: Any) -> specs.ContainerSpec:
    fields.setdefault("networks", (specs.NetworkJoin("front"),))
    return specs.ContainerSpec(specs.ImageRef(image), **fields)


def image(name: str = "base", config: specs.ImageConfig | None = None, **more: Any) -> Resource:
    spec = specs.Image(
        host=specs.HostSource(programs=("/bin/sh",)),
        config=config or specs.ImageConfig(command=("sh",), env={"LANG": "C"}),
    )
    return resource(Kind.IMAGE, name, spec, **more)


def network(name: str = "front", spec: specs.Network | None = None, **more: Any) -> Resource:
    return resource(Kind.NETWORK, name, spec or specs.Network(), **more)


def volume(name: str = "data", spec: specs.Volume | None = None, **more: Any) -> Resource:
    return resource(Kind.VOLUME, name, spec or specs.Volume(), **more)


def config(name: str = "site", data: Mapping[str, Any] | None = None, **more: Any) -> Resource:
    return resource(
        Kind.CONFIG, name, {"data": dict(data or {"index": "hello"}), "template": False}, **more
    )


def secret(name: str = "db", values: Mapping[str, str] | None = None, **more: Any) -> Resource:
    data = {k: SecretValue(v.encode()).fingerprint(KEY) for k, v in (values or {}).items()}
    return resource(
        Kind.SECRET, name, {"data": data, "allowPlaintext": False, "identity": None}, **more
    )


def container(
    name: str = "app",
    spec: specs.ContainerSpec | None = None,
    publish: tuple[specs.Publish, ...] = (),
    state: str = "running",
    update: specs.Update | None = None,
    **more: Any,
) -> Resource:
    whole = specs.Container(spec or container_spec(), publish, state, update or specs.Update())
    return resource(Kind.CONTAINER, name, whole, **more)


def service(
    name: str = "web",
    spec: specs.ContainerSpec | None = None,
    replicas: int = 2,
    publish: tuple[specs.Publish, ...] = (specs.Publish(8080, 80),),
    state: str = "running",
    update: specs.Update | None = None,
    **more: Any,
) -> Resource:
    whole = specs.Service(
        spec or container_spec(), replicas, publish, state, update or specs.Update()
    )
    return resource(Kind.SERVICE, name, whole, **more)


def job(
    name: str = "seed",
    spec: specs.ContainerSpec | None = None,
    fields: Mapping[str, Any] | None = None,
    **more: Any,
) -> Resource:
    ran = spec or container_spec(restart=specs.Restart(policy="no"))
    return resource(Kind.JOB, name, specs.Job(ran, **(fields or {})), **more)


def desired(
    *resources: Resource, prune: bool = True, secrets: Mapping[str, Mapping[str, str]] | None = None
) -> Desired:
    """Return what is wanted; *resources* in dependency order. *secrets* are values by name."""
    return Desired(
        project=PROJECT,
        resources=resources,
        prune=prune,
        fingerprint=fingerprint([[str(r.id), r.spec] for r in resources]),
        sources=("shop.yaml",),
        secrets={
            rid(Kind.SECRET, name): {k: SecretValue(v.encode()) for k, v in values.items()}
            for name, values in (secrets or {}).items()
        },
    )


GROUND = (image(), network())
"""What most containers need."""
