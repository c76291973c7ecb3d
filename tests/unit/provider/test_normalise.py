"""Canonical trees: what means the same is equal, every field is there, every place is kept."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provider.errors import Origin
from provider.manifest.normalise import canonical_spec, normalise
from provider.manifest.shape import spec_shape
from provider.model import specs
from provider.model.codec import decode, encode
from provider.model.ids import Kind
from tests.support.documents import FOLDER, document, draft

VIEWS: dict[str, Any] = {
    "Project": specs.Project,
    "Host": specs.Host,
    "Network": specs.Network,
    "Volume": specs.Volume,
    "Image": specs.Image,
    "Config": specs.Config,
    "Secret": specs.Secret,
    "Container": specs.Container,
    "Service": specs.Service,
    "Job": specs.Job,
}

CONTAINER: dict[str, list[Any]] = {
    "image": ["app", {"name": "app"}, {"name": "app", "project": "base"}],
    "entrypoint": [["/bin/sh", "-c"], None],
    "command": [["a", "b"], ["b", "a"]],
    "env": [
        {"A": 1, "B": True, "C": "x", "D": 1.5},
        {"A": {"value": 1}, "S": {"secret": "s", "key": "k"}, "C": {"config": "c", "key": "k"}},
    ],
    "workdir": ["/srv//app/", "/"],
    "user": [1000, "redis", "01:02"],
    "groups": [["b", 3, "a", "3"], []],
    "networks": [["b", "a"], ["a", {"name": "b", "aliases": ["y", "x"], "ip": "10.0.0.9"}]],
    "extraHosts": [{"h": "host-gateway", "a": "10.0.0.1"}],
    "dns": [{"servers": ["9.9.9.9", "1.1.1.1"]}, None],
    "volumes": [
        [
            {"target": "/z/", "volume": "v"},
            {"target": "//a", "bind": "/srv/./x", "readOnly": True},
            {"target": "/t", "tmpfs": {"size": "1Mi", "mode": "0755"}},
        ]
    ],
    "configs": [
        ["c"],
        [{"name": "c", "key": "k"}, {"name": "c", "target": "/etc/c", "mode": "644"}],
    ],
    "secrets": [["s"], [{"name": "s", "key": "k", "uid": 5}]],
    "devices": [["/dev/fuse"], [{"path": "/dev/kvm", "target": "/dev/x", "permissions": "wr"}]],
    "shmSize": ["1Gi", 4096],
    "resources": [{"memory": "64Mi", "cpus": "500m"}, {"pids": None}, {"io": {"weight": 10}}],
    "ulimits": [{"nofile": 10, "core": {"soft": 0, "hard": -1}}],
    "sysctls": [{"net.core.somaxconn": 128}],
    "capabilities": [{"add": ["CAP_NET_ADMIN", "net_admin", "SYS_TIME"], "drop": ["ALL"]}],
    "stopSignal": ["TERM", "SIGTERM", 15, 35],
    "stopGrace": ["1m30s", 90],
    "restart": ["no", {"policy": "on-failure", "maxRetries": 3}, {"backoff": "1s"}, None],
    "health": [{"http": {"port": 80}}, {"exec": {"command": ["x"]}, "interval": "2s"}, None],
}
OUTSIDE: dict[str, list[Any]] = {
    "publish": [["8080:80", 443, "53/udp"], [{"port": 1, "ip": "127.0.0.1"}, "80"]],
    "state": ["running", "stopped"],
    "update": [{"order": "start-first", "healthyFor": "3s"}],
    "dependsOn": [["Job/b", {"kind": "Container", "name": "a", "timeout": 5}]],
    "hosts": [["b", "a"], {"names": ["a"]}, {"matchLabels": {"zone": "a"}}, None],
    "lifecycle": [{"ignore": ["container.env", "container.user"], "prune": False}],
}


def some(fields: dict[str, list[Any]], *, always: tuple[str, ...] = ()) -> st.SearchStrategy[Any]:
    choices = {name: st.sampled_from(values) for name, values in fields.items()}
    required = {name: choices.pop(name) for name in always}
    return st.fixed_dictionaries(required, optional=choices)


services = st.builds(
    lambda container, rest: {"container": container, **rest},
    some(CONTAINER, always=("image",)),
    some(OUTSIDE),
)


def again(found: Any) -> Any:
    """Return a draft as the spec one would write to say exactly this."""
    return {
        **found.spec,
        "dependsOn": list(found.depends_on),
        "hosts": found.hosts,
        "lifecycle": found.lifecycle,
    }


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=60)
@given(services)
def test_what_comes_out_is_complete_and_stays_as_it_is(spec: Any) -> None:
    once = draft("Service", spec)
    assert encode(decode(specs.Service, once.spec)) == once.spec
    twice = draft("Service", again(once))
    assert (twice.spec, twice.depends_on, twice.hosts, twice.lifecycle) == (
        once.spec,
        once.depends_on,
        once.hosts,
        once.lifecycle,
    )


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=40)
@given(services, st.randoms(use_true_random=False))
def test_the_order_of_sets_and_maps_means_nothing(spec: Any, rng: Any) -> None:
    def shuffled(value: Any, atomic: bool = False) -> Any:
        if isinstance(value, dict):
            keys = list(value)
            rng.shuffle(keys)
            ordered = {"command", "entrypoint", "servers"}
            return {key: shuffled(value[key], key in ordered) for key in keys}
        if isinstance(value, list):
            items = [shuffled(element) for element in value]
            if not atomic:
                rng.shuffle(items)
            return items
        return value

    assert draft("Service", shuffled(spec)).spec == draft("Service", spec).spec


MINIMAL: dict[str, Any] = {
    "Image": {"host": {"programs": ["/bin/true"]}},
    "Config": {"data": {"a": "text", "b": {"file": "f"}}},
    "Secret": {"data": {"a": {"fromEnv": "A"}, "b": {"command": ["pass", "b"]}}},
    "Container": {"container": {"image": "app"}},
    "Service": {"container": {"image": "app"}},
    "Job": {"container": {"image": "app"}},
}


@pytest.mark.parametrize("kind", VIEWS)
def test_every_kind_comes_out_complete(kind: str) -> None:
    found = draft(kind, MINIMAL.get(kind, {}))
    assert encode(decode(VIEWS[kind], found.spec)) == found.spec


@pytest.mark.parametrize("kind", VIEWS)
def test_null_is_absent(kind: str) -> None:
    """Every optional field written as null is the same as not written, but for settings."""
    written = dict(MINIMAL.get(kind, {}))
    nulls = {name: None for name in spec_shape(Kind(kind)).properties if name not in written}
    assert draft(kind, written | nulls).spec == draft(kind, written).spec


def test_null_pids_is_no_limit_and_absent_pids_is_the_default() -> None:
    def pids(resources: Any) -> Any:
        spec = draft("Container", {"container": {"image": "a", "resources": resources}}).spec
        return spec["container"]["resources"]["pids"]

    assert pids({}) == 4096
    assert pids({"pids": None}) is None


def container(**fields: Any) -> Any:
    return draft("Container", {"container": {"image": "app", **fields}}).spec["container"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"user": 1000}, {"user": "1000"}),
        ({"env": {"A": True}}, {"env": {"A": "true"}}),
        ({"env": {"A": 3}}, {"env": {"A": {"value": "3"}}}),
        ({"networks": ["a", "b"]}, {"networks": [{"name": "b"}, {"name": "a"}]}),
        ({"devices": ["/dev/fuse"]}, {"devices": [{"path": "/dev/fuse", "target": "/dev/fuse"}]}),
        ({"devices": ["/dev/fuse"]}, {"devices": [{"path": "/dev/fuse", "permissions": "mwr"}]}),
        ({"ulimits": {"nofile": 9}}, {"ulimits": {"nofile": {"soft": 9, "hard": 9}}}),
        ({"restart": "always"}, {"restart": {"policy": "always"}}),
        ({"restart": "always"}, {}),
        ({"stopSignal": 15}, {"stopSignal": "TERM"}),
        ({"stopSignal": "SIGTERM"}, {"stopSignal": "TERM"}),
        ({"stopSignal": 35}, {"stopSignal": "SIGRTMIN+1"}),
        ({"shmSize": "64Mi"}, {"shmSize": 67108864}),
        ({"stopGrace": "1m30s"}, {"stopGrace": 90}),
        ({"resources": {"cpus": "500m"}}, {"resources": {"cpus": 0.5}}),
        ({"capabilities": {"add": ["CAP_SYS_TIME"]}}, {"capabilities": {"add": ["SYS_TIME"]}}),
        ({"configs": ["c"]}, {"configs": [{"name": "c", "target": "/run/configs/c/"}]}),
        (
            {"secrets": [{"name": "s", "key": "k"}]},
            {"secrets": [{"name": "s", "key": "k", "target": "/run/secrets/s/k"}]},
        ),
        (
            {"volumes": [{"target": "/data/", "volume": "v"}]},
            {"volumes": [{"target": "//data", "volume": "v", "copy": True}]},
        ),
        (
            {"volumes": [{"target": "/t", "tmpfs": {"mode": "0755"}}]},
            {"volumes": [{"target": "/t", "tmpfs": {"mode": "755"}}]},
        ),
    ],
)
def test_two_ways_to_say_the_same(one: Any, other: Any) -> None:
    assert container(**one) == container(**other)


@pytest.mark.parametrize(
    ("short", "port", "target", "protocol", "ip"),
    [
        ("8080:80", 8080, 80, "tcp", "0.0.0.0"),
        ("127.0.0.1:8080:80/udp", 8080, 80, "udp", "127.0.0.1"),
        ("0.0.0.0:80:80", 80, 80, "tcp", "0.0.0.0"),
        (8080, 8080, 8080, "tcp", "0.0.0.0"),
        ("8080", 8080, 8080, "tcp", "0.0.0.0"),
        ("53/udp", 53, 53, "udp", "0.0.0.0"),
        ({"port": 80, "targetPort": 8080}, 80, 8080, "tcp", "0.0.0.0"),
    ],
)
def test_publish(short: Any, port: int, target: int, protocol: str, ip: str) -> None:
    spec = draft("Service", {"container": {"image": "app"}, "publish": [short]}).spec
    assert spec["publish"] == [{"port": port, "targetPort": target, "protocol": protocol, "ip": ip}]


@pytest.mark.parametrize(
    ("text", "value"), [("1.10", "1.10"), ("true", "true"), ("0x1F", "0x1F"), ("1e3", "1e3")]
)
def test_env_values_are_the_text_that_was_written(text: str, value: str) -> None:
    found = draft("Container", f"container: {{image: app, env: {{V: {text}}}}}")
    assert found.spec["container"]["env"]["V"]["value"] == value


def test_a_job_does_not_restart_unless_it_says_so() -> None:
    def policy(kind: str, **fields: Any) -> str:
        spec = draft(kind, {"container": {"image": "app", **fields}}).spec
        return str(spec["container"]["restart"]["policy"])

    assert policy("Job") == "no"
    assert policy("Job", restart={"backoff": "1s"}) == "no"
    assert policy("Job", restart="on-failure") == "on-failure"
    assert policy("Container") == "always"


def test_paths_of_archives_start_at_the_manifest() -> None:
    def path(written: str) -> str:
        return str(draft("Image", {"archive": {"path": written}}).spec["archive"]["path"])

    assert path("./images/a.tar") == f"{FOLDER}/images/a.tar"
    assert path("/srv/a.tar") == "/srv/a.tar"


def test_what_depends_hosts_and_lifecycle_say_is_lifted_out() -> None:
    found = draft(
        "Container",
        {
            "container": {"image": "app"},
            "dependsOn": ["Job/migrate"],
            "hosts": ["b", "a"],
            "lifecycle": {"preventDestroy": True},
        },
        metadata={"labels": {"tier": "front"}, "formerName": "old"},
    )
    assert set(found.spec) == {"container", "publish", "state", "update"}
    assert found.depends_on == (
        {
            "kind": "Job",
            "name": "migrate",
            "condition": "started",
            "timeout": 120.0,
            "effect": "order",
        },
    )
    assert found.hosts == {"names": ["a", "b"], "matchLabels": None}
    assert found.lifecycle == {"preventDestroy": True, "prune": True, "ignore": []}
    assert (found.labels, found.former_name) == ({"tier": "front"}, "old")


def test_places_are_those_of_the_canonical_path() -> None:
    found = draft(
        "Service",
        """\
        container:
          image: app
          env:
            A: 1
          volumes:
            - target: /data/
              volume: v
        publish:
          - "8080:80"
        hosts: [a]
        """,
    )
    assert found.provenance["container.image"] == Origin("shop.yaml", 6, 5)
    assert found.provenance["container.image.name"] == Origin("shop.yaml", 6, 5)
    assert found.provenance["container.env.A.value"] == Origin("shop.yaml", 8, 7)
    assert found.provenance["container.volumes[/data].volume"] == Origin("shop.yaml", 11, 9)
    assert found.provenance["publish[0.0.0.0:8080/tcp].targetPort"] == Origin("shop.yaml", 13, 7)
    assert found.provenance["hosts.names[a]"] == Origin("shop.yaml", 14, 11)
    assert "container.volumes[/data].readOnly" not in found.provenance
    assert "publish[0.0.0.0:8080/tcp].ip" not in found.provenance
    assert found.origin_of("container.volumes[/data].readOnly") == Origin("shop.yaml", 10, 9)
    assert found.origin_of("state") == found.origin


def test_a_merge_key_that_stands_twice_is_a_problem() -> None:
    found = document(
        "Container",
        """\
        container:
          image: app
          networks: [a, {name: a, aliases: [x]}]
          volumes:
            - {target: /data, volume: v}
            - {target: /data/, volume: w}
        publish: ["80:1", "0.0.0.0:80:2"]
        """,
    )
    _, problems = normalise(found, project="shop", folder=FOLDER)
    assert [str(problem) for problem in problems] == [
        "shop.yaml:7:19: spec.container.networks[1]: a stands here twice; first shop.yaml:7:16",
        "shop.yaml:10:9: spec.container.volumes[1]: /data stands here twice; first shop.yaml:9:9",
        "shop.yaml:11:21: spec.publish[1]: 0.0.0.0:80/tcp stands here twice; first shop.yaml:11:13",
    ]


def test_a_value_twice_in_a_set_is_once_in_it() -> None:
    assert container(capabilities={"drop": ["ALL", "all", "CAP_ALL"]})["capabilities"]["drop"] == [
        "ALL"
    ]


@pytest.mark.parametrize("kind", VIEWS)
def test_all_defaults_are_those_of_the_typed_views(kind: str) -> None:
    if kind not in MINIMAL:
        assert canonical_spec(Kind(kind), {}) == json.loads(json.dumps(encode(VIEWS[kind]())))
