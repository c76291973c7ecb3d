"""Two ways to write the same are the same, in every field: none of them counts as a change.

Each field of the schemas is here, with other spellings of what the documents say, or with the
reason why there are none; a field that is added there fails here until somebody has thought of it.
"""

import copy
import json
from typing import Any

import pytest

from provider.manifest.files import SourceFile
from provider.manifest.normalise import normalise
from provider.manifest.shape import Shape, document_shape
from provider.manifest.source import read_sources
from provider.manifest.validate import judge
from provider.model.ids import Kind
from tests.support import fields
from tests.support.documents import FOLDER

TREES = [fields.project(), *fields.documents()]


def meaning(tree: Any, gone: fields.Path | None = None) -> Any:
    """Return all that counts of a document, without the member *gone*; None if it is not valid."""
    if gone is not None:
        tree = copy.deepcopy(tree)
        del fields.at(tree, gone[:-1])[gone[-1]]
    (document,) = read_sources([SourceFile("a.yaml", json.dumps(tree).encode())]).documents
    if judge(document).problems:
        return None
    draft, problems = normalise(document, project="shop", folder=FOLDER)
    if problems:
        return None
    about = draft.labels, draft.annotations, draft.hosts, draft.lifecycle, list(draft.depends_on)
    return draft.id, draft.spec, *about


MEMBERS = [
    pytest.param(tree, path, id=f"{tree['kind']}-{tree['metadata']['name']}-{fields.path_id(path)}")
    for tree in TREES
    for path in fields.places(tree)
    if isinstance(fields.at(tree, path), (dict, list)) and isinstance(path[-1], str)
]


@pytest.mark.parametrize(("tree", "path"), MEMBERS)
def test_what_is_empty_is_what_is_absent(tree: Any, path: fields.Path) -> None:
    absent = meaning(tree, gone=path)
    empty = meaning(fields.put(tree, path, type(fields.at(tree, path))()))
    if absent is not None and empty is not None:
        assert empty == absent
    null = meaning(fields.put(tree, path, None))
    if absent is not None and null is not None:
        assert null == absent


def test_a_device_without_limits_limits_nothing() -> None:
    (tree,) = [t for t in TREES if t["kind"] == "Container" and t["metadata"]["name"] == "it"]
    path = ("spec", "container", "resources", "io")
    bare = {"path": "/dev/sdb"}
    assert meaning(fields.put(tree, path, {"devices": [bare]})) == meaning(tree, gone=path)
    limited = fields.at(tree, path)
    more = limited | {"devices": [*limited["devices"], bare]}
    assert meaning(fields.put(tree, path, more)) == meaning(tree)


_VERBATIM = "its text is handed on as it is"
_WORD = "one of a few words"
_NAME = "a DNS label, in lower case"

BY_DEFINITION: dict[str, list[list[Any]] | str] = {
    "size": [["64Mi", 67108864, "65536Ki", "67108864B", "0.0625Gi"], ["1k", "1K", 1000, "1000"]],
    "duration": [["1m30s", 90, "90s", "1.5m", "90000ms", 90.0], [0.1234567, "0.1234567s"]],
    "cpus": [["500m", 0.5, "0.5", "0.50"], [2, "2", "2000m", 2.0]],
    "mode": [["0755", "755", "00755"]],
    "absolutePath": [["/srv/a", "/srv//a/", "//srv/./a"]],
    "workdir": [["/srv/a", "/srv//a/", "//srv/./a"], ["/", "//", "/."]],
    "mountTarget": [["/srv/a", "/srv//a/", "//srv/./a"]],
    "filePath": [["a/b", "./a/b", "a//b", "a/./b/"], ["/a/b", "//a/./b"]],
    "ipv4": [],  # no zeros can lead, and nothing can be left out
    "ip": [
        ["fd00::1", "FD00:0:0::0001", "fd00:0:0:0:0:0:0:1"],
        ["::ffff:10.0.0.1", "::ffff:a00:1"],
    ],
    "subnet": "refused unless it is written as its network is",
    "user": [[1000, "1000", "01000"], ["1000:1000", "01000:1000"]],
    "group": [[29, "29", "029"]],
    "id": [],
    "port": [],
    "signal": [["TERM", "SIGTERM", 15], ["CHLD", "CLD"], ["RTMIN+28", "RTMAX-2", 62], [6, "IOT"]],
    "name": _NAME,
    "hostName": [],  # see aliases and search; the rest is told with its case
    "hostOrIp": _VERBATIM,
    "envName": "programs tell case apart",
    "dataKey": _VERBATIM,
    "labelValue": _VERBATIM,
    "text": _VERBATIM,
    "argument": _VERBATIM,
    "apiVersion": _WORD,
}

BY_FIELD: dict[str, list[list[Any]] | str] = {
    "spec.container.env.*": [[8080, "8080", {"value": 8080}, {"value": "8080"}], [True, "true"]],
    "spec.container.image": [["app", {"name": "app"}, {"name": "app", "project": "shop"}]],
    "spec.container.image.project": [[None, "shop"]],
    "spec.container.networks.*": [["net", {"name": "net"}, {"name": "net", "project": "shop"}]],
    "spec.container.networks.*.project": [[None, "shop"]],
    "spec.container.networks.*.aliases.*": [["DB.Lan", "db.lan"]],
    "spec.container.volumes.*.project": [[None, "shop"]],
    "spec.container.volumes.*.propagation": [
        [word, f"r{word}"] for word in ("private", "slave", "shared")
    ],
    "spec.container.dns.search.*": [["Example.ORG", "example.org"]],
    "spec.container.dns.options.*": _VERBATIM,
    "spec.container.extraHosts.*": [["10.0.0.1"], ["::1", "0:0::1"], ["host-gateway"]],
    "spec.container.extraHosts": [],  # some C libraries tell case apart
    "spec.container.configs.*": [["conf", {"name": "conf", "target": "/run/configs/conf/"}]],
    "spec.container.secrets.*": [["sec", {"name": "sec", "target": "/run/secrets/sec"}]],
    "spec.container.devices.*": [["/dev/n", {"path": "/dev//n", "target": "/dev/n"}]],
    "spec.container.devices.*.permissions": _WORD,
    "spec.container.resources.cpuset": [
        ["0,1", "0-1", "1,0", "0-1,1", "00-01", "0-0,1-1"],
        ["0-2,5", "5,2,1,0", "0-1,2,5-5"],
    ],
    "spec.container.ulimits.*": [[5, {"soft": 5, "hard": 5}]],
    "spec.container.sysctls": [
        [{"net.core.somaxconn": 1}, {"net/core/somaxconn": "1"}],
        [{"net/ipv4/conf/eth0.5/forwarding": 1}],
    ],
    "spec.container.sysctls.*": [[1024, "1024"]],
    "spec.container.restart": [["no", {"policy": "no"}, {"policy": "no", "backoff": "100ms"}]],
    "spec.container.health.http.path": _VERBATIM,
    "spec.publish.*": [[82, "82", "82:82", "82/tcp", "0.0.0.0:82:82/tcp", {"port": 82}]],
    "spec.dependsOn.*": [["Image/tar", {"kind": "Image", "name": "tar"}]],
    "spec.hosts": [[["here"], {"names": ["here"]}]],
    "spec.user": _VERBATIM,
    "spec.debian.packages.*": _VERBATIM,
    "spec.debian.suite": _VERBATIM,
    "spec.data.*": [["x", {"text": "x"}]],
    "spec.data.*.text": _VERBATIM,
    "spec.config.labels.*": _VERBATIM,
}
"""Of fields whose definition says too little, or that have none."""


def shapes(kind: str) -> dict[str, Shape]:
    """Return the shape of each field of a kind."""
    found: dict[str, Shape] = {}

    def walk(shape: Shape, at: str) -> None:
        found[at] = shape
        for name, member in shape.properties.items():
            walk(member, f"{at}.{name}" if at else name)
        for inner in (shape.items, shape.values):
            if inner is not None:
                walk(inner, f"{at}.*")

    walk(document_shape(Kind(kind)), "")
    return found


def known(kind: str, field: str) -> list[list[Any]] | str | None:
    """Return the spellings of a field, or why there are none; None: nobody has thought of it."""
    if field in BY_FIELD:
        return BY_FIELD[field]
    shape = shapes(kind)[field]
    definition = (
        shape.unit and {"bytes": "size", "seconds": "duration", "cores": "cpus"}[shape.unit]
    )
    if (definition or shape.definition) in BY_DEFINITION:
        return BY_DEFINITION[definition or shape.definition]
    if not shape.types & {"string", "number"}:
        return []  # whole numbers and truth values have one spelling
    return None


@pytest.mark.parametrize("kind", list(dict.fromkeys(t["kind"] for t in TREES)))
def test_somebody_has_thought_of_every_field(kind: str) -> None:
    words = {f for f in fields.fields(kind) if fields.is_choice(kind, f)}
    assert sorted(f for f in fields.fields(kind) - words if known(kind, f) is None) == []


CASES = [
    pytest.param(
        tree,
        path,
        group,
        id=f"{tree['kind']}-{tree['metadata']['name']}-{fields.path_id(path)}-{n}",
    )
    for tree in TREES
    for path in fields.places(tree)
    if isinstance(spellings := known(tree["kind"], fields.pattern(tree["kind"], path)), list)
    for n, group in enumerate(spellings)
]


@pytest.mark.parametrize(("tree", "path", "group"), CASES)
def test_other_spellings_mean_the_same(tree: Any, path: fields.Path, group: list[Any]) -> None:
    found = [meaning(fields.put(tree, path, way)) for way in group]
    valid = [each for each in found if each is not None]
    assert all(each == valid[0] for each in valid)


def test_every_spelling_is_allowed_somewhere() -> None:
    """So that the test above compares what it says."""
    used: dict[str, set[bool]] = {}
    for case in CASES:
        tree, path, group = case.values
        assert isinstance(path, tuple)
        found = [meaning(fields.put(tree, path, way)) is not None for way in group]  # type: ignore[union-attr]  # a list
        used.setdefault(json.dumps(group), set()).add(all(found))
    assert sorted(group for group, allowed in used.items() if True not in allowed) == []
