"""The effective spec of an instance: everything that makes it what it is, in one tree. Pure.

Two steps. ``outline`` turns a resource into the tree its instances share, with UNKNOWN wherever
something outside the resource decides; ``bind`` fills those places from facts about a host. What
stays UNKNOWN in a plan is bound again while it is applied, by the same function.

The tree has the members of the canonical spec (provider.model.specs), and besides:

- everywhere ``metadata {labels, annotations}``, ``lifecycle {preventDestroy, prune}`` and
  ``dependsOn [{kind, name, condition, timeout, effect, restartWith, recreateWith}]``, where the
  last two hold the dependency's generation if the effect asks for it;
- ``container.image.digest``, and the image's defaults merged in by Docker's rules;
- ``container.env.NAME`` is the text itself, or ``{secret, key, fingerprint}``;
- ``container.networks[].id``, ``container.volumes[].id``: the object that is joined;
- ``container.configs[].fingerprint``, ``container.secrets[].fingerprint``;
- ``update.order`` decided;
- a replica of a Service has no ``publish`` and ``replicas``; the Service's instance -1 has these,
  ``state`` and ``backends [{index, host, id}]``, and no container;
- an Image's ``inputs`` (see ``Observer.inputs``).

This same shape is what the ledger holds and what is compared, exactly.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from provider.errors import ManifestError, Problem
from provider.model.ids import InstanceId, Kind, ResourceId
from provider.model.plan import UNKNOWN
from provider.model.resource import Effect, Resource
from provider.model.tree import Json, Tree, fingerprint, item, join
from provider.planning.diff import REST
from provider.planning.facts import Facts
from runtime.spec import DEFAULT_PATH

DEFAULT_WORKDIR = "/"
DEFAULT_USER = "0"
DEFAULT_STOP_SIGNAL = "SIGTERM"


class Contents:
    """Canonical ``data`` of Configs and Secrets: texts, respectively fingerprints."""

    def __init__(self, look_up: Callable[[ResourceId], Mapping[str, Json]]) -> None:
        self._look_up = look_up
        self._data: dict[ResourceId, Mapping[str, Json]] = {}
        self._fingerprints: dict[tuple[ResourceId, str | None], str] = {}

    def data(self, resource: ResourceId) -> Mapping[str, Json]:
        """Return all items of a resource."""
        if resource not in self._data:
            self._data[resource] = self._look_up(resource)
        return self._data[resource]

    def fingerprint(self, resource: ResourceId, key: str | None) -> str:
        """Return what stands for the content of one item, or of all."""
        known = self._fingerprints.get((resource, key))
        if known is None:
            data = self.data(resource)
            known = fingerprint(dict(data) if key is None else data.get(key))
            self._fingerprints[resource, key] = known
        return known


CONTAINER_KINDS = frozenset({Kind.CONTAINER, Kind.SERVICE, Kind.JOB})


def outline(resource: Resource, contents: Contents, inputs: Tree | None = None) -> Tree:
    """Return the tree all instances of *resource* have in common (of a Service: its replicas).

    Raises:
        ManifestError: a key of a Config or Secret is used that it does not have.
    """
    tree = dict(resource.spec)
    if resource.id.kind in CONTAINER_KINDS:
        tree["container"] = _container(resource, contents)
        if "update" in tree:
            tree["update"] = _update(resource.spec["update"], resource.spec["container"])
    if resource.id.kind is Kind.SERVICE:
        del tree["publish"], tree["replicas"]
    if resource.id.kind is Kind.IMAGE:
        tree["inputs"] = inputs or {}
    if resource.id.kind is Kind.NETWORK:
        tree["subnet"] = tree["subnet"] or UNKNOWN
        tree["gateway"] = tree["gateway"] or UNKNOWN
    return tree | _about(resource)


def ports_outline(resource: Resource, replicas: Sequence[InstanceId]) -> Tree:
    """Return the tree of a Service's published ports, in front of *replicas*."""
    spec = resource.spec
    about = _about(resource)
    # No process of theirs could restart with a dependency.
    edges = [edge | {"restartWith": None, "recreateWith": None} for edge in about["dependsOn"]]
    return {
        "publish": spec["publish"],
        "replicas": spec["replicas"],
        "state": spec["state"],
        "backends": [{"index": r.index, "host": r.host, "id": UNKNOWN} for r in replicas],
        **about,
        "dependsOn": edges,
    }


def bind(tree: Tree, instance: InstanceId, facts: Facts) -> tuple[Tree, frozenset[str]]:
    """Return *tree* with what *facts* tell filled in, and the paths the image gave.

    Idempotent; places whose facts are not known stay UNKNOWN.
    """
    project, host = instance.resource.project, instance.host
    bound, from_image = dict(tree), frozenset[str]()
    if "container" in tree:
        bound["container"], from_image = _bind_container(tree["container"], project, host, facts)
    if "backends" in tree:
        bound["backends"] = [
            _bind_backend(backend, instance.resource, facts) for backend in tree["backends"]
        ]
    bound["dependsOn"] = [_bind_edge(edge, project, host, facts) for edge in tree["dependsOn"]]
    return bound, from_image


def inherit_addresses(want: Tree, before: Tree) -> Tree:
    """Return a Network's tree with the subnet it was given once, where none is asked for."""
    subnet = before["subnet"] if want["subnet"] == UNKNOWN else want["subnet"]
    gateway = want["gateway"]
    if gateway == UNKNOWN and subnet == before["subnet"]:
        gateway = before["gateway"]
    return want | {"subnet": subnet, "gateway": gateway}


def unknown_paths(tree: Json, path: str = "") -> list[str]:
    """Return where *tree* still holds UNKNOWN; list items by position."""
    if isinstance(tree, dict):
        return _unknown_in(tree.items(), lambda key: join(path, key))
    if isinstance(tree, list):
        return _unknown_in(enumerate(tree), lambda key: item(path, key))
    return [path] if tree == UNKNOWN else []


def _unknown_in(members: Iterable[tuple[Any, Json]], place: Callable[[Any], str]) -> list[str]:
    found = []
    for key, value in members:
        # Paths are made for few of the values: this walks every spec of a plan.
        if isinstance(value, (dict, list)):
            if value:
                found += unknown_paths(value, place(key))
        elif value == UNKNOWN:
            found.append(place(key))
    return found


def _about(resource: Resource) -> Tree:
    explicit = [d for d in resource.dependencies if d.field.startswith("dependsOn")]
    return {
        "metadata": {
            "labels": dict(resource.labels),
            "annotations": dict(resource.annotations),
        },
        "lifecycle": {"preventDestroy": resource.prevent_destroy, "prune": resource.prune},
        "dependsOn": [
            {
                "kind": str(edge.target.kind),
                "name": edge.target.name,
                "condition": str(edge.condition),
                "timeout": edge.timeout_s,
                "effect": str(edge.effect),
                "restartWith": UNKNOWN if edge.effect is Effect.RESTART else None,
                "recreateWith": UNKNOWN if edge.effect is Effect.RECREATE else None,
            }
            for edge in sorted(explicit, key=lambda d: (d.target.kind, d.target.name))
        ],
    }


def _container(resource: Resource, contents: Contents) -> Tree:
    spec: Tree = resource.spec["container"]
    command = spec["command"]
    if command is None:
        # As in Docker, an entrypoint of one's own drops the image's command.
        command = UNKNOWN if spec["entrypoint"] is None else []

    def variable(name: str, source: Tree) -> Json:
        if source["secret"] is None and source["config"] is None:
            return str(source["value"])
        kind = Kind.CONFIG if source["config"] else Kind.SECRET
        used = source["config"] or source["secret"]
        value = pick(kind, used, source["key"], join("container.env", name))
        if kind is Kind.CONFIG:
            return value
        return {"secret": used, "key": source["key"], "fingerprint": value}

    def pick(kind: Kind, name: str, key: str, path: str) -> Json:
        value = contents.data(ResourceId(resource.id.project, kind, name)).get(key)
        if isinstance(value, str):
            return value
        fault = f"{kind}/{name} has no key {key}" if value is None else f"{key} is not text"
        place = resource.provenance.get(path, resource.origin)
        raise ManifestError((Problem(fault, place, f"spec.{path}"),))

    def file(kind: Kind, use: Tree) -> Tree:
        target = ResourceId(resource.id.project, kind, use["name"])
        return use | {"fingerprint": contents.fingerprint(target, use["key"])}

    env = {name: variable(name, source) for name, source in spec["env"].items()}
    return spec | {
        "image": spec["image"] | {"digest": UNKNOWN},
        "entrypoint": UNKNOWN if spec["entrypoint"] is None else spec["entrypoint"],
        "command": command,
        "workdir": spec["workdir"] or UNKNOWN,
        "user": spec["user"] or UNKNOWN,
        "stopSignal": spec["stopSignal"] or UNKNOWN,
        "env": env | {REST: UNKNOWN},
        "networks": [use | {"id": UNKNOWN} for use in spec["networks"]],
        "volumes": [use | {"id": UNKNOWN if use["volume"] else None} for use in spec["volumes"]],
        "configs": [file(Kind.CONFIG, use) for use in spec["configs"]],
        "secrets": [file(Kind.SECRET, use) for use in spec["secrets"]],
    }


def _update(update: Tree, container: Tree) -> Tree:
    if update["order"]:
        return update
    writable = any(not mount["readOnly"] and not mount["tmpfs"] for mount in container["volumes"])
    fixed = any(use["ip"] for use in container["networks"])
    alone = writable or fixed or container["networkMode"] == "host" or container["devices"]
    return update | {"order": "stop-first" if alone else "start-first"}


def _bind_container(
    tree: Tree, project: str, host: str, facts: Facts
) -> tuple[Tree, frozenset[str]]:
    bound = tree | {
        "networks": [_bind_object(join, Kind.NETWORK, "name", project, host, facts)
                     for join in tree["networks"]],
        "volumes": [_bind_object(mount, Kind.VOLUME, "volume", project, host, facts)
                    for mount in tree["volumes"]],
    }  # fmt: skip
    reference = tree["image"]
    image = facts.on(
        host, ResourceId(reference["project"] or project, Kind.IMAGE, reference["name"])
    )
    if reference["digest"] != UNKNOWN or image is None or "digest" not in image.record:
        return bound, frozenset()
    config, given = image.record["config"], set()

    def choose(member: str, default: Any) -> None:
        if bound[member] != UNKNOWN:
            return
        if config.get(member):
            given.add(f"container.{member}")
        bound[member] = config.get(member) or default

    choose("entrypoint", [])
    choose("command", [])
    choose("workdir", DEFAULT_WORKDIR)
    choose("user", DEFAULT_USER)
    choose("stopSignal", DEFAULT_STOP_SIGNAL)
    defaults = {"PATH": DEFAULT_PATH} | config.get("env", {})
    own = {name: value for name, value in tree["env"].items() if name != REST}
    given.update(f"container.env.{n}" for n in config.get("env", {}) if n not in own)
    bound["env"] = defaults | own
    bound["image"] = reference | {"digest": image.record["digest"]}
    return bound, frozenset(given)


def _bind_object(use: Tree, kind: Kind, member: str, project: str, host: str, facts: Facts) -> Tree:
    if use["id"] != UNKNOWN:
        return use
    target = ResourceId(use["project"] or project, kind, use[member])
    return use | {"id": facts.object_id(host, target)}


def _bind_backend(backend: Tree, service: ResourceId, facts: Facts) -> Tree:
    if backend["id"] != UNKNOWN:
        return backend
    replica = facts.get(InstanceId(service, backend["host"], backend["index"]))
    return backend | {"id": replica.object_id if replica and replica.object_id else UNKNOWN}


def _bind_edge(edge: Tree, project: str, host: str, facts: Facts) -> Tree:
    unknown = [member for member in ("restartWith", "recreateWith") if edge[member] == UNKNOWN]
    if not unknown:
        return edge
    generation = facts.generation(host, ResourceId(project, Kind(edge["kind"]), edge["name"]))
    return edge | dict.fromkeys(unknown, generation)
