"""Every field of every spec: it has a rule, a change is noticed, and takes what the rule says.

The walk goes over the dataclasses, so that a field added there fails here until it is dealt with.
"""

import copy
import dataclasses
import types
import typing
from typing import Any

import pytest

from provider.model import specs
from provider.model.codec import camel
from provider.model.ids import Kind
from provider.model.plan import Consequence, Verb
from provider.planning.marks import FREE_MAPS, LIST_MARKS, SET
from provider.planning.rules import PORTS, RULES
from tests.support import builders as b
from tests.support.memory import Host

SPECS = {
    Kind.CONTAINER: specs.Container,
    Kind.SERVICE: specs.Service,
    Kind.JOB: specs.Job,
    Kind.NETWORK: specs.Network,
    Kind.VOLUME: specs.Volume,
    Kind.IMAGE: specs.Image,
}

KEYS = {
    "container.networks.*.name",
    "container.volumes.*.target",
    "container.configs.*.target",
    "container.secrets.*.target",
    "container.devices.*.target",
    "container.resources.io.devices.*.path",
    "publish.*.ip",
    "publish.*.port",
    "publish.*.protocol",
}
"""Merge keys: another key is another item, whose rule is that of the list."""

ENV = {"value", "secret", "config", "key"}
"""A variable is text, or a secret; the effective spec has one of the two (see effective.py)."""


def patterns(hint: Any, at: str) -> typing.Iterator[str]:
    """Yield the pattern of every field below a type hint, those of optional objects included."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        (inner,) = (a for a in arguments if a is not types.NoneType)
        if dataclasses.is_dataclass(inner):
            yield at
        yield from patterns(inner, at)
    elif dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        for field in dataclasses.fields(hint):
            below = f"{at}.{camel(field.name)}" if at else camel(field.name)
            yield from patterns(hints[field.name], below)
    elif origin is tuple and dataclasses.is_dataclass(arguments[0]):
        yield f"{at}.*"
        yield from patterns(arguments[0], f"{at}.*")
    elif origin is tuple:
        yield f"{at}.*" if LIST_MARKS.get(at) == SET else at
    elif origin is dict:
        yield f"{at}.*"
        if dataclasses.is_dataclass(arguments[1]):
            yield from patterns(arguments[1], f"{at}.*")
    else:
        yield at


@pytest.mark.parametrize("kind", SPECS, ids=str)
def test_every_field_has_a_rule(kind):
    fields = set(patterns(SPECS[kind], "")) - KEYS
    fields -= {f"container.env.*.{member}" for member in ENV}
    assert sorted(fields - RULES[kind].keys()) == []


@pytest.mark.parametrize("kind", SPECS, ids=str)
def test_every_rule_has_a_field(kind):
    ours = {"metadata", "lifecycle", "dependsOn", "backends", "inputs"}
    derived = {"id", "digest", "fingerprint"}
    rows = {
        row
        for row in RULES[kind]
        if row.split(".")[0] not in ours and row.split(".")[-1] not in derived
    }
    fields = set(patterns(SPECS[kind], ""))
    assert sorted(rows - fields) == []


@pytest.mark.parametrize("path", sorted(FREE_MAPS | LIST_MARKS.keys()))
def test_marks_are_of_fields(path):
    fields = {found for spec in SPECS.values() for found in patterns(spec, "")}
    ours = {"metadata.labels", "metadata.annotations", "data", "inputs", "backends", "dependsOn"}
    assert path in ours or f"{path}.*" in fields


RICH = specs.ContainerSpec(
    specs.ImageRef("base"),
    entrypoint=("/bin/sh",),
    command=("-c", "true"),
    env={
        "PLAIN": specs.EnvVar(value="1"),
        "HIDDEN": specs.EnvVar(secret="db", key="password"),
        "TOLD": specs.EnvVar(config="site", key="index"),
    },
    workdir="/srv",
    user="nobody",
    groups=("audio",),
    hostname="here",
    networks=(specs.NetworkJoin("front", aliases=("a",), ip="10.88.0.9"),),
    extra_hosts={"db": "10.0.0.1"},
    dns=specs.Dns(("9.9.9.9",), ("lan",), ("ndots:1",)),
    volumes=(
        specs.VolumeMount("/data", volume="data"),
        specs.VolumeMount("/host", bind="/srv"),
        specs.VolumeMount("/tmp", tmpfs=specs.TmpfsOptions()),
    ),
    configs=(specs.FileMount("site", "/site", key="index"),),
    secrets=(specs.FileMount("db", "/db", key="password"),),
    devices=(specs.Device("/dev/null", "/dev/zilch"),),
    resources=specs.Resources(
        memory=1 << 26,
        memory_swap=0,
        memory_reservation=1 << 25,
        cpus=0.5,
        cpu_weight=100,
        cpuset="0",
        io=specs.IoLimits(100, (specs.IoDevice("/dev/sda", 1, 2, 3, 4),)),
        oom_score_adj=5,
    ),
    ulimits={"nofile": specs.Ulimit(1024, 2048)},
    sysctls={"net.core.somaxconn": "1024"},
    capabilities=specs.Capabilities(("NET_ADMIN",), ("CHOWN",)),
    stop_signal="SIGINT",
    restart=specs.Restart(max_retries=3),
    health=specs.Health(
        http=specs.HttpProbe(80, host="h"), tcp=specs.TcpProbe(80), exec=specs.ExecProbe(("true",))
    ),
)

UPDATE = specs.Update(order="stop-first")
PUBLISH = (specs.Publish(8080, 80),)

BASES = {
    Kind.CONTAINER: b.container("it", RICH, PUBLISH, update=UPDATE),
    Kind.SERVICE: b.service("it", RICH, publish=PUBLISH, update=UPDATE),
    Kind.JOB: b.job("it", RICH, {"undo": ("true",)}),
    Kind.NETWORK: b.network("it", specs.Network("10.1.0.0/24", "10.1.0.1", mtu=1400)),
    Kind.VOLUME: b.volume("it", specs.Volume(uid=1, gid=1, mode="0755")),
    Kind.IMAGE: b.image("it"),
    Kind.CONFIG: b.config("it", {"a": "1", "b": {"base64": "AA=="}}),
    Kind.SECRET: b.secret("it", {"a": "1"}),
}

IMAGE = specs.Image(
    specs.ArchiveSource("a.tar", "a:1"),
    specs.HostSource(("/bin/sh",), ("/etc/motd",)),
    specs.DebianSource(("redis",), "bookworm"),
    specs.ImageConfig(("a",), ("b",), {"A": "1"}, "/", "0", "SIGTERM", {"l": "1"}),
)
BASES[Kind.IMAGE] = b.resource(Kind.IMAGE, "it", IMAGE)

GROUND = (
    b.image(),
    b.image("other"),
    b.network(),
    b.network("other"),
    b.volume(),
    b.volume("other"),
    b.config("site", {"index": "hello", "index2": "bye"}),
    b.config("other", {"index": "hello", "index2": "bye"}),
    b.secret("db", {"password": "x", "password2": "y"}),
    b.secret("other", {"password": "x", "password2": "y"}),
)
SECRETS = {
    "db": {"password": "x", "password2": "y"},
    "other": {"password": "x", "password2": "y"},
    "it": {"a": "1"},
}


def leaves(tree: Any, path: tuple[Any, ...] = ()) -> typing.Iterator[tuple[Any, ...]]:
    """Yield where a tree holds a value, an empty list or an empty object."""
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from leaves(value, (*path, key))
    elif isinstance(tree, list) and tree:
        for key, value in enumerate(tree):
            yield from leaves(value, (*path, key))
    else:
        yield path


def other(value: Any, path: tuple[Any, ...]) -> Any:
    """Return another value of the same sort."""
    reference = path[-1] in ("name", "volume", "secret", "config") and value
    if reference:
        return "other"
    if path[-1] == "key" and value:
        return f"{value}2"
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, list):
        return ["new"]
    if isinstance(value, dict):
        return {"new": "new"}
    return f"{value or ''}x"


def changed(tree: Any, path: tuple[Any, ...]) -> Any:
    copied = copy.deepcopy(tree)
    at = copied
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = other(at[path[-1]], path)
    return copied


def never_set(kind: Kind, path: tuple[Any, ...]) -> bool:
    """Return whether a leaf is not there in this shape: one of several, or no project's."""
    if path[-1] == "project":
        return True  # needs another project; see test_foreign
    if path[:2] == ("container", "env"):
        chosen = {"PLAIN": {"value"}, "HIDDEN": {"secret", "key"}, "TOLD": {"key"}}
        return path[3] not in chosen[path[2]]
    if path[:2] == ("container", "volumes") and path[3] in ("volume", "tmpfs"):
        mount = BASES[kind].spec["container"]["volumes"][path[2]]
        return mount[path[3]] is None
    return False


CASES = [
    (kind, path)
    for kind, base in BASES.items()
    for path in leaves(base.spec)
    if not never_set(kind, path)
]


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """A host on which every base is applied, one after the other; only looked at afterwards."""
    host = Host(tmp_path_factory.mktemp("state"))
    report = host.apply(whole({}))
    assert not report.failed, [r.failure for r in report.results if r.failure]
    assert host.plan(whole({})).is_empty
    return host


def whole(replaced: dict[Kind, Any]) -> Any:
    return b.desired(*GROUND, *(BASES | replaced).values(), secrets=SECRETS)


@pytest.mark.parametrize(
    ("kind", "path"), CASES, ids=[f"{k}-{'.'.join(map(str, p))}" for k, p in CASES]
)
def test_a_change_of_a_field_is_noticed(host, kind, path):
    base = BASES[kind]
    edited = dataclasses.replace(base, spec=changed(base.spec, path))
    if "container" in base.spec:
        fresh = b.resource(kind, "it", edited.spec)
        edited = dataclasses.replace(edited, dependencies=fresh.dependencies)
    plan = host.plan(whole({kind: edited}))
    touched = [a for a in plan.pending if a.id.resource == base.id]
    assert touched, "not noticed"
    assert not [a for a in plan.pending if a.id.resource != base.id], "something else as well"
    for action in touched:
        if action.verb is Verb.UPDATE:
            ports = kind is Kind.SERVICE and action.id.index < 0
            rows = RULES[kind] | (PORTS if ports else {})
            rules = [rows[pattern_of(change.path)] for change in action.changes]
            assert action.consequence == max(rules, key=lambda c: c.rank)


@pytest.mark.parametrize("kind", BASES, ids=str)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("labels", {"new": "1"}),
        ("annotations", {"new": "1"}),
        ("prevent_destroy", True),
        ("prune", False),
        ("dependencies", (b.wait_for(Kind.VOLUME, "other"),)),
    ],
)
def test_a_change_around_the_spec_is_noticed(host, kind, field, value):
    base = BASES[kind]
    if field == "dependencies":
        value = (*base.dependencies, *value)
    plan = host.plan(whole({kind: dataclasses.replace(base, **{field: value})}))
    assert {a.id.resource for a in plan.pending} == {base.id}
    assert {a.consequence for a in plan.pending} == {Consequence.LIVE}


def pattern_of(path: str) -> str:
    """Return the pattern of a concrete path; written without the code under test."""
    parts, depth, word = [], 0, ""
    for letter in path:
        if letter == "[":
            if depth == 0 and word:
                parts.append(word)
                word = ""
            depth += 1
        elif letter == "]":
            depth -= 1
            if depth == 0:
                parts.append("*")
        elif depth:
            continue
        elif letter == ".":
            if word:
                parts.append(word)
            word = ""
        else:
            word += letter
    if word:
        parts.append(word)
    for number, _ in enumerate(parts):
        if ".".join(parts[:number]) in FREE_MAPS:
            parts[number] = "*"
    return ".".join(parts)
