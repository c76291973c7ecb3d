"""Verdict and words of the schemas; that both validators agree; that nothing makes them fail."""

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import schemas
from provider.errors import Problem
from provider.manifest.document import Document, Positions
from provider.manifest.files import SourceFile, read_files
from provider.manifest.source import read_sources
from provider.manifest.taint import conceal
from provider.manifest.validate import failures, is_valid, validate

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").iterdir())

LONG_FORM = """
apiVersion: bayplan/v1alpha1
kind: Service
metadata:
  name: web
  project: shop
  labels: {tier: front, example.org/owner: me}
  annotations: {note: "any text: at all"}
  formerName: www
spec:
  replicas: 3
  state: running
  hosts: {matchLabels: {zone: a}}
  container:
    image: {name: web, project: null}
    entrypoint: null
    command: [serve, --port, "80"]
    env:
      A: {value: x, secret: null, config: null, key: null}
      B: {value: null, secret: db, config: null, key: password}
      C: {value: null, secret: null, config: app, key: c.conf}
    workdir: /srv
    user: nobody:nogroup
    groups: [audio, 29]
    hostname: web.example.org
    tty: false
    init: true
    networkMode: bridge
    networks: [{name: front, project: null, aliases: [www], ip: 10.0.0.9}]
    extraHosts: {host.local: host-gateway, db: 10.0.0.5, six: "fd00::1"}
    dns: {servers: [10.0.0.1, "::1"], search: [example.org], options: ["ndots:2", rotate]}
    volumes:
      - {target: /data, volume: data, project: other, bind: null, create: false, tmpfs: null,
         readOnly: false, copy: true, propagation: private}
      - {target: /src, bind: /home/me, create: true, propagation: rslave}
      - {target: /run, tmpfs: {size: 67108864, mode: "1777"}}
    configs: [{name: app, target: /etc/app, key: null, uid: 0, gid: 0, mode: "0444"}]
    secrets: [{name: db, target: /run/secrets/db, key: password, uid: 1000, gid: 0, mode: "400"}]
    devices: [{path: /dev/fuse, target: /dev/fuse, permissions: rwm}]
    shmSize: 67108864
    resources:
      memory: 67108864
      memorySwap: 0
      memoryReservation: null
      cpus: 0.5
      cpuWeight: 100
      cpuset: 0-3,6
      pids: null
      io: {weight: 100, devices: [{path: /dev/sda, readBps: 1Mi, writeBps: null, readIops: 100}]}
      oomScoreAdj: -500
    ulimits: {nofile: {soft: 1024, hard: -1}}
    sysctls: {net.core.somaxconn: "1024"}
    readOnly: true
    privileged: false
    capabilities: {add: [NET_ADMIN], drop: [ALL]}
    noNewPrivileges: true
    seccomp: default
    stopSignal: TERM
    stopGrace: 10.0
    restart: {policy: on-failure, maxRetries: 3, backoff: 0.1, maxBackoff: 60}
    health: {http: {port: 80, path: "/healthz?full=1", host: web}, tcp: null, exec: null,
             interval: 10, timeout: 3, retries: 3, startPeriod: 0, onUnhealthy: restart}
    logs: {maxSize: 10485760, maxFiles: 3}
  publish: [{port: 80, targetPort: 8080, protocol: tcp, ip: 127.0.0.1}]
  dependsOn: [{kind: Job, name: seed, condition: completed, timeout: 120, effect: recreate}]
  update: {order: start-first, batch: 2, healthyFor: 5s, onFailure: continue}
  lifecycle: {preventDestroy: true, prune: false, ignore: [container.resources.memory]}
"""

SHORT_FORM = """
apiVersion: bayplan/v1alpha1
kind: Job
metadata: {name: seed}
spec:
  hosts: [a, b]
  container:
    image: web
    env: {A: x, B: 1, C: 1.5, D: true, E: {secret: db, key: password}, F: {config: c, key: k}}
    user: 1000
    groups: [audio]
    networks: [front, {name: back}]
    volumes: [{volume: data, target: /data}, {target: /run, tmpfs: {}}]
    configs: [app]
    secrets: [{name: db, key: password}]
    devices: [/dev/fuse]
    resources: {memory: 64Mi, memorySwap: 1.5Gi, cpus: 500m, pids: 64}
    ulimits: {nofile: 1024, core: -1}
    sysctls: {net.core.somaxconn: 1024}
    stopSignal: 15
    stopGrace: 1m30s
    restart: no
    health: {exec: {command: [true-ish]}, interval: 250ms}
  dependsOn: [Container/db, {kind: Service, name: api}]
  rerun: always
  undo: [sh, -c, undo]
  timeout: 1h
"""

OTHERS = """
{apiVersion: bayplan/v1alpha1, kind: Project, metadata: {name: shop}}
---
{apiVersion: bayplan/v1alpha1, kind: Network, metadata: {name: n}}
---
{apiVersion: bayplan/v1alpha1, kind: Network, metadata: {name: n}, spec: {subnet: 10.0.0.0/8}}
---
{apiVersion: bayplan/v1alpha1, kind: Volume, metadata: {name: v},
 spec: {mode: "0750", uid: 1, sharedWriters: true}}
---
{apiVersion: bayplan/v1alpha1, kind: Host, metadata: {name: h, labels: {zone: a}},
 spec: {address: h.example.org, connection: ssh, user: root, port: 22, identityFile: id}}
---
{apiVersion: bayplan/v1alpha1, kind: Image, metadata: {name: i},
 spec: {archive: {path: web.tar, reference: "web:1"}, config: {env: {A: 1}, labels: {a.b: c}}}}
---
{apiVersion: bayplan/v1alpha1, kind: Image, metadata: {name: i},
 spec: {archive: null, debian: {packages: [g++, "libc6:amd64", "a1=1:2.3-4~x"], suite: bookworm}}}
---
{apiVersion: bayplan/v1alpha1, kind: Config, metadata: {name: c},
 spec: {data: {a: text, .b: {file: ./b}, c.d: {text: "", file: null}}, template: true}}
---
{apiVersion: bayplan/v1alpha1, kind: Secret, metadata: {name: s},
 spec: {data: {a: {file: f}, b: {fromEnv: B}, c: {command: [pass, c]}, d: {encrypted: age}}}}
---
{apiVersion: bayplan/v1alpha1, kind: Secret, metadata: {name: s},
 spec: {allowPlaintext: true, data: {a: {text: "two\\nlines"}}}}
---
apiVersion: bayplan/v1alpha1
kind: Container
metadata: {name: c}
spec:
  container: {image: i, env: {EMPTY: ""}}
  publish: [80, "81", "8080:80", "127.0.0.1:53:53/udp", {port: 1, targetPort: null}]
  state: stopped
"""


def documents(text: str) -> tuple[Document, ...]:
    reading = read_sources([SourceFile("f.yaml", text.encode())])
    assert not reading.problems, reading.problems
    return reading.documents


VALID = [*documents(LONG_FORM), *documents(SHORT_FORM), *documents(OTHERS)]
each_valid_document = pytest.mark.parametrize(
    "document", VALID, ids=[f"{d.kind}-{number}" for number, d in enumerate(VALID)]
)


class TestValid:
    @each_valid_document
    def test_documents(self, document: Document) -> None:
        assert validate([document]) == ()
        assert is_valid("manifest", document.tree)

    @pytest.mark.parametrize("folder", EXAMPLES, ids=lambda path: path.name)
    def test_examples(self, folder: Path) -> None:
        reading = read_sources(read_files([str(folder)]).files)
        assert not reading.problems
        assert validate(reading.documents) == ()


def words(text: str) -> list[str]:
    return [str(problem) for problem in validate(documents(text))]


class TestWords:
    """The rest is in tests/golden/invalid."""

    def test_all_of_a_run_in_input_order(self) -> None:
        head = "apiVersion: bayplan/v1alpha1\nkind: Volume\nmetadata: {name: a}\n"
        said = words(f"{head}spec: {{gid: x, uid: -1, mod: 1}}\n---\n{head}spec: {{mode: 9}}\n")
        assert [line.split(": ")[0:2] for line in said] == [
            ["f.yaml:4:13", "spec.gid"],
            ["f.yaml:4:21", "spec.uid"],
            ["f.yaml:4:25", "spec.mod"],
            ["f.yaml:9:14", "spec.mode"],
        ]

    def test_never_speaks_of_schemas(self) -> None:
        for document in VALID[1:]:
            for said in map(str, mutants_problems(document)):
                assert "schema" not in said
                assert "valid under" not in said

    def test_what_the_reader_has_said_is_not_said_again(self) -> None:
        text = (
            "apiVersion: bayplan/v1alpha1\nkind: Volume\nmetadata: {name: a}\n"
            "spec: {uid: 022, mode: 1, mode: 2, gid: x}\n"
        )
        reading = read_sources([SourceFile("f.yaml", text.encode())])
        assert len(reading.problems) == 2
        assert [problem.path for problem in validate(reading.documents)] == ["spec.gid"]

    def test_every_missing_field_once(self) -> None:
        said = words("kind: Service\n")
        assert said == [
            "f.yaml:1:1: `apiVersion` is missing",
            "f.yaml:1:1: `metadata` is missing",
            "f.yaml:1:1: `spec` is missing",
        ]

    def test_newline_at_the_end_is_part_of_the_value(self) -> None:
        text = "apiVersion: bayplan/v1alpha1\nkind: Volume\nmetadata:\n  name: |\n    a\n"
        (said,) = words(text)
        assert said.startswith("f.yaml:4:9: metadata.name: `a\\n` is not allowed")

    def test_values_marked_sensitive_are_not_shown(self) -> None:
        tree = {
            "apiVersion": "bayplan/v1alpha1",
            "kind": "Volume",
            "metadata": {"name": "Hunter2"},
            "spec": {"uid": "Hunter2", "mode": "Hunter2", "prune": 1},
        }
        (plain,) = documents(json.dumps(tree))
        sensitive = frozenset({("metadata", "name"), ("spec", "uid"), ("spec", "mode")})
        hidden = conceal(dataclasses.replace(plain, sensitive=sensitive))
        said = [str(problem).partition(": ")[2] for problem in validate([hidden])]
        shown = "a value from --secret-values would be shown and recorded here; expected secret "
        shown += "values only in env, and in data of a Config or Secret"
        assert said == [
            f"metadata.name: {shown}",
            f"spec.uid: {shown}",
            f"spec.mode: {shown}",
            "spec.prune: unknown field; write it into `lifecycle`: `lifecycle: {prune: ...}`",
        ]


def mutants_problems(document: Document) -> list[Problem]:
    """Problems of the document with each of its nodes replaced by something odd."""
    found: list[Problem] = []
    for path in document.positions:
        for odd in (None, "?", {"?": "?"}):
            tree = replaced(document.tree, path, odd)
            if isinstance(tree, dict):
                found += validate([with_tree(document, tree)])
    return found


def with_tree(document: Document, tree: dict[str, Any]) -> Document:
    kind = tree.get("kind")
    positions = Positions("f.yaml", {path: (1, 1, 1, 1) for path in everywhere(tree)})
    word = kind if isinstance(kind, str) else ""
    return Document(word, "", "", tree, positions, document.origin)


def everywhere(node: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at]
    members = node.items() if isinstance(node, dict) else ()
    members = enumerate(node) if isinstance(node, list) else members
    for key, value in members:
        found += everywhere(value, (*at, key))
    return found


def replaced(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    changed = copy.copy(tree)
    changed[path[0]] = replaced(tree[path[0]], path[1:], value)
    return changed


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
words_known = st.sampled_from(
    sorted(
        {name for document in VALID for path in document.positions for name in path if
         isinstance(name, str)}
        | {"tmpfs", "exec", "hosts", "x", "ALL", "no", "/a", "80", "1Gi", "5s", "a\n", "٣"}
    )
)  # fmt: skip
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
    | words_known
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(words_known | texts, inner, max_size=4)
    ),
    max_leaves=8,
)


class TestAgreement:
    """jsonschema_rs decides, jsonschema words: they must never differ."""

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(data=st.data())
    def test_on_damaged_documents(self, data: st.DataObject) -> None:
        document = data.draw(st.sampled_from(VALID), label="document")
        tree = document.tree
        for _ in range(data.draw(st.integers(1, 3))):
            path = data.draw(st.sampled_from(everywhere(tree)[1:]), label="path")
            tree = replaced(tree, path, data.draw(values, label="value"))
        self.agree(document.kind, tree)
        problems = validate([with_tree(document, tree)])
        if tree.get("kind") == document.kind:
            assert bool(problems) != is_valid(document.kind, tree)

    @settings(max_examples=200, deadline=None)
    @given(kind=st.sampled_from(schemas.names()), tree=values)
    def test_on_anything(self, kind: str, tree: Any) -> None:
        self.agree(kind, tree)

    @each_valid_document
    def test_on_every_node_replaced(self, document: Document) -> None:
        for path in document.positions:
            for odd in (None, "a\n", -1, ["?", "?"]):
                self.agree(document.kind, replaced(document.tree, path, odd))

    def agree(self, kind: str, tree: Any) -> None:
        fast = is_valid(kind, tree)
        failure = next(failures(kind, tree), None)
        assert fast == (failure is None), failure
        manifest = tree.get("kind") if isinstance(tree, dict) else None
        if kind.title() == manifest:
            assert is_valid("manifest", tree) == fast
