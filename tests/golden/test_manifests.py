"""Each folder below ``manifests`` is a run: its manifests, and what must come of them.

``options.json`` holds further arguments of ``load``. What is expected is either ``desired.json``
(every resource, canonical, with the places of what was written) or ``error.txt`` (all problems).
``pytest --update-golden`` rewrites them; review the difference.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from provider.errors import ManifestError
from provider.manifest.load import load
from provider.model.codec import encode
from provider.model.resource import Desired

CASES = Path(__file__).parent / "manifests"
ENVIRONMENT = {"SHOP_TOKEN": "from-the-environment", "PATH": "/usr/bin:/bin"}
KEY = b"golden" * 5


@pytest.mark.parametrize("case", sorted(p.name for p in CASES.iterdir()))
def test_manifest(
    case: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    folder = CASES / case
    # Places are then those a user in that folder sees, and the same on every machine.
    monkeypatch.chdir(folder)
    options = json.loads((folder / "options.json").read_text()) if _has(folder, "options") else {}
    options.setdefault("files", ["manifest.yaml"])
    try:
        name, text = (
            "desired.json",
            _shown(load(**options, env=ENVIRONMENT, hmac_key=KEY), folder),
        )
    except ManifestError as error:
        name, text = "error.txt", "".join(f"{problem}\n" for problem in error.problems)
        text = text.replace(str(folder), "$FOLDER")
    if request.config.getoption("--update-golden"):
        for other in ("desired.json", "error.txt"):
            (folder / other).unlink(missing_ok=True)
        (folder / name).write_text(text)
    assert (folder / name).exists(), f"now comes out as {name}:\n{text}"
    assert text == (folder / name).read_text()


def _has(folder: Path, name: str) -> bool:
    return (folder / f"{name}.json").exists()


def _shown(desired: Desired, folder: Path) -> str:
    tree: Any = {
        "project": desired.project,
        "prune": desired.prune,
        "resources": {str(r.id): _resource(r) for r in desired.resources},
    }
    return json.dumps(tree, indent=1).replace(str(folder), "$FOLDER") + "\n"


def _resource(resource: Any) -> Any:
    tree = {
        "labels": dict(resource.labels),
        "annotations": dict(resource.annotations),
        "formerName": resource.former_name,
        "hosts": list(resource.hosts),
        "preventDestroy": resource.prevent_destroy,
        "prune": resource.prune,
        "ignore": list(resource.ignore),
        "dependencies": [
            f"{e.target} of {e.target.project}: {e.condition} {e.timeout_s:g}s {e.effect} {e.field}"
            for e in resource.dependencies
        ],
        "spec": encode(resource.spec),
        "places": {path: str(origin) for path, origin in sorted(resource.provenance.items())},
    }
    return {key: value for key, value in tree.items() if value or key == "spec"}
