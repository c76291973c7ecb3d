"""Documents that use every field of the schemas, and a walk over the places in them."""

import copy
from collections.abc import Iterator
from typing import Any

import schemas
from tests.support.documents import API

Path = tuple[str | int, ...]

_HOSTS: list[Any] = [["here"], {"names": ["here"]}, {"matchLabels": {"zone": "a"}}]
_LIFECYCLE = {"preventDestroy": False, "prune": True, "ignore": ["container.env"]}
_COMMON = {"hosts": ["here"], "lifecycle": _LIFECYCLE}

_CONTAINER: dict[str, Any] = {
    "image": {"name": "app", "project": None},
    "entrypoint": ["/bin/sh"],
    "command": ["-c", "true"],
    "env": {
        "PLAIN": "1",
        "VALUE": {"value": "1"},
        "HIDDEN": {"secret": "sec", "key": "k"},
        "TOLD": {"config": "conf", "key": "k"},
    },
    "workdir": "/srv",
    "user": "nobody",
    "groups": ["audio"],
    "hostname": "box",
    "tty": False,
    "init": True,
    "networkMode": "bridge",
    "networks": [{"name": "net", "project": None, "aliases": ["it"], "ip": "10.1.0.9"}],
    "extraHosts": {"db": "10.0.0.1"},
    "dns": {"servers": ["9.9.9.9"], "search": ["lan"], "options": ["ndots:1"]},
    "volumes": [
        {"target": "/data", "volume": "vol", "project": None, "copy": True, "readOnly": True},
        {"target": "/host", "bind": "/srv", "create": True, "propagation": "private"},
        {"target": "/t", "tmpfs": {"size": "1Mi", "mode": "0755"}},
    ],
    "configs": [
        {"name": "conf", "target": "/c", "key": "k", "uid": 1, "gid": 1, "mode": "0444"},
        "conf",
    ],
    "secrets": [
        {"name": "sec", "target": "/s", "key": "k", "uid": 1, "gid": 1, "mode": "0444"},
        "sec",
    ],
    "devices": [{"path": "/dev/null", "target": "/dev/n", "permissions": "rw"}, "/dev/zero"],
    "shmSize": "1Mi",
    "resources": {
        "memory": "64Mi",
        "memorySwap": 0,
        "memoryReservation": "32Mi",
        "cpus": 0.5,
        "cpuWeight": 100,
        "cpuset": "0-1",
        "pids": 100,
        "io": {
            "weight": 100,
            "devices": [
                {"path": "/dev/sda", "readBps": 1, "writeBps": 1, "readIops": 1, "writeIops": 1}
            ],
        },
        "oomScoreAdj": 1,
    },
    "ulimits": {"nofile": {"soft": 1, "hard": 2}, "core": 0},
    "sysctls": {"net.core.somaxconn": "1024"},
    "readOnly": True,
    "privileged": False,
    "capabilities": {"add": ["NET_ADMIN"], "drop": ["CHOWN"]},
    "noNewPrivileges": True,
    "seccomp": "default",
    "stopSignal": "INT",
    "stopGrace": "5s",
    "restart": {"policy": "on-failure", "maxRetries": 3, "backoff": "1s", "maxBackoff": "2s"},
    "health": {
        "http": {"port": 80, "path": "/", "host": "h"},
        "interval": "1s",
        "timeout": "1s",
        "retries": 3,
        "startPeriod": "1s",
        "onUnhealthy": "none",
    },
    "logs": {"maxSize": "1Mi", "maxFiles": 2},
}
_OTHERWISE: dict[str, Any] = {
    "image": "app",
    "networks": ["net"],
    "restart": "no",
    "health": {"tcp": {"port": 80}},
}
_EXEC = {"image": "app", "health": {"exec": {"command": ["true"]}}}
_WAIT = {
    "kind": "Image",
    "name": "app",
    "condition": "started",
    "timeout": "1m",
    "effect": "order",
}
_PUBLISH = [{"port": 81, "targetPort": 80, "protocol": "tcp", "ip": "127.0.0.1"}, "82:80", 83]
_UPDATE = {"order": "stop-first", "batch": 1, "healthyFor": "0s", "onFailure": "continue"}
_JOB = {"perHost": False, "rerun": "never", "idempotent": True, "retries": 1, "timeout": "1m"}

SPECS: list[tuple[str, str, Any]] = [
    ("Host", "here", {"address": "local", "connection": "local", "user": "u", "port": 22,
                      "identityFile": "id"}),
    ("Network", "net", {"subnet": "10.1.0.0/24", "gateway": "10.1.0.1", "internal": False,
                        "mtu": 1400, "scope": "host"} | _COMMON),
    ("Volume", "vol", {"sharedWriters": True, "uid": 1, "gid": 1, "mode": "0755"} | _COMMON),
    ("Image", "app", {"host": {"programs": ["/bin/sh"], "files": ["/etc/motd"]},
                      "config": {"entrypoint": ["a"], "command": ["b"], "env": {"A": "1"},
                                 "workdir": "/", "user": "0", "stopSignal": "TERM",
                                 "labels": {"l": "1"}},
                      "lifecycle": _LIFECYCLE}),
    ("Image", "tar", {"archive": {"path": "a.tar", "reference": "a:1"}}),
    ("Image", "deb", {"debian": {"packages": ["redis"], "suite": "bookworm", "variant": "apt"}}),
    ("Config", "conf", {"data": {"k": "text", "t": {"text": "x"}, "f": {"file": "motd"}},
                        "template": False, "lifecycle": _LIFECYCLE}),
    ("Secret", "sec", {"data": {"k": {"text": "x"}, "f": {"file": "motd"}, "e": {"fromEnv": "E"},
                                "c": {"command": ["true"]}, "a": {"encrypted": "x"}},
                       "allowPlaintext": True, "identity": "id", "lifecycle": _LIFECYCLE}),
    ("Container", "it", {"container": _CONTAINER, "publish": _PUBLISH, "state": "running",
                         "update": _UPDATE, "dependsOn": [_WAIT, "Volume/vol"]} | _COMMON),
    ("Container", "other", {"container": _OTHERWISE, "hosts": _HOSTS[1]}),
    ("Container", "third", {"container": _EXEC, "hosts": _HOSTS[2]}),
    ("Service", "it", {"container": {"image": "app"}, "replicas": 1, "publish": [85],
                       "state": "running", "update": _UPDATE, "dependsOn": [_WAIT],
                       "lifecycle": _LIFECYCLE, "hosts": _HOSTS[2]}),
    ("Job", "it", {"container": {"image": "app"}, "undo": ["true"], "dependsOn": [_WAIT]}
                  | _JOB | _COMMON),
]  # fmt: skip
"""Kind, name and spec of documents that go together, and have every field between them."""

_METADATA = {"labels": {"zone": "a"}, "annotations": {"note": "x"}}


def project() -> dict[str, Any]:
    """Return the document the others belong to."""
    metadata = {"name": "shop"} | copy.deepcopy(_METADATA)
    return {"apiVersion": API, "kind": "Project", "metadata": metadata, "spec": {"prune": True}}


def documents() -> list[dict[str, Any]]:
    """Return all documents but that of the project."""
    return [
        {
            "apiVersion": API,
            "kind": kind,
            "metadata": {"name": name, "project": "shop", "formerName": f"old-{name}"}
            | copy.deepcopy(_METADATA),
            "spec": copy.deepcopy(spec),
        }
        for kind, name, spec in SPECS
    ]


def places(tree: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the path of every value in *tree*, those that hold others included."""
    if path:
        yield path
    if isinstance(tree, (dict, list)):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from places(value, (*path, key))


def at(tree: Any, path: Path) -> Any:
    """Return the value at *path*."""
    for step in path:
        tree = tree[step]
    return tree


def put(tree: Any, path: Path, value: Any) -> Any:
    """Return a copy of *tree* with *value* at *path*."""
    copied = copy.deepcopy(tree)
    at(copied, path[:-1])[path[-1]] = value
    return copied


def fields(kind: str) -> set[str]:
    """Return all fields of a kind by its schema; ``*`` is a key of the user's, or an item."""
    root = schemas.bundle(kind.lower())

    def walk(node: Any, path: str) -> Iterator[str]:
        while "$ref" in node:
            node = {**schemas.resolve(root, node["$ref"]), **node_without_ref(node)}
        for name, member in node.get("properties", {}).items():
            below = f"{path}.{name}" if path else name
            yield below
            yield from walk(member, below)
        for inner in ("items", "additionalProperties"):
            if isinstance(node.get(inner), dict):
                yield from walk(node[inner], f"{path}.*")

    return set(walk(root, ""))


def node_without_ref(node: dict[str, Any]) -> dict[str, Any]:
    """Return the rest of a schema that refers to another."""
    return {key: value for key, value in node.items() if key != "$ref"}


def pattern(kind: str, path: Path) -> str:
    """Return which of `fields` the value at *path* is of."""
    known = fields(kind)
    text = ""
    for step in path:
        named = f"{text}.{step}" if text else str(step)
        text = named if named in known else f"{text}.*"
    return text


def path_id(path: Path) -> str:
    """Return *path* as the name of a test has it."""
    return ".".join(map(str, path))


def is_choice(kind: str, field: str) -> bool:
    """Return whether a field takes one of a few words."""
    root = schemas.bundle(kind.lower())
    node: Any = root
    for step in field.split("."):
        while "$ref" in node:
            node = {**schemas.resolve(root, node["$ref"]), **node_without_ref(node)}
        inner = node.get("items") or node.get("additionalProperties")
        node = node.get("properties", {}).get(step, inner)
    while "$ref" in node:
        node = {**schemas.resolve(root, node["$ref"]), **node_without_ref(node)}
    return "enum" in node or "const" in node
