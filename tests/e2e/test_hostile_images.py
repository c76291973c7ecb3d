"""Images of strangers: what is wrong with one fails what uses it, and nothing else."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from runtime.image.model import Platform
from tests.support.manifests import HEAD, document, sleeper
from tests.support.tarball import END, file, folder

pytestmark = pytest.mark.e2e


def write_archive(
    path: Path, config: dict[str, Any], *, passwd: bytes = b"", group: bytes = b""
) -> None:
    """Write a docker archive of busybox."""
    layer = folder(b"bin") + file(b"bin/sleep", Path("/bin/busybox").read_bytes(), mode=0o755)
    layer += folder(b"etc") + file(b"etc/passwd", passwd) + file(b"etc/group", group) + END
    configuration = {
        **Platform.host().to_json(),
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    listing = [{"Config": "config.json", "RepoTags": None, "Layers": ["layer.tar"]}]
    path.write_bytes(
        file(b"manifest.json", json.dumps(listing).encode())
        + file(b"config.json", json.dumps(configuration).encode())
        + file(b"layer.tar", layer)
        + END
    )


@pytest.fixture
def manifest(tmp_path) -> str:
    strange = document("Image", "strange", f"{{archive: {{path: {tmp_path}/image.tar}}}}")
    uses_it = sleeper("one").replace("image: box", "image: strange")
    return HEAD + sleeper("bystander") + strange + uses_it


def check_fails(bayplan, manifest: str, culprit: str, text: str) -> None:
    """The culprit fails, each time; the rest of the project is brought up."""
    for _ in range(2):
        report = bayplan.apply(manifest, code=1)
        said = [f"{r['id']}: {r['error']['message']}" for r in report["resources"] if r["error"]]
        # What the image lacks is told before anything is touched, once that is here.
        said += [error["message"] for error in report["errors"]]
        assert any(text in each for each in said if culprit in each)
        assert [c["name"] for c in bayplan.json("ps")] == ["test.bystander"]


@pytest.mark.parametrize(
    "config",
    [{"Env": ["A=\ud800"]}, {"Labels": {"\udfff": ""}}, {"User": "\ud800"}, {"Cmd": ["\ud800"]}],
    ids=lambda config: next(iter(config)),
)
def test_one_whose_words_cannot_be_written(bayplan, tmp_path, manifest, config):
    write_archive(tmp_path / "image.tar", config)
    check_fails(bayplan, manifest, "Image/strange", "which is no character")
    write_archive(tmp_path / "image.tar", {})
    bayplan.apply(manifest)
    assert {r["action"] for r in bayplan.plan(manifest)["resources"]} == {"noop"}
    bayplan.delete("test")


@pytest.mark.parametrize("where", ["passwd", "group", "config"])
def test_one_with_numbers_nobody_can_count_to(bayplan, tmp_path, manifest, where):
    number = "9" * 5000
    config = {"User": number if where == "config" else "who:team"}
    passwd = f"who:x:{number if where == 'passwd' else 1}:1::/:\n"
    group = f"team:x:{number}:\n"
    write_archive(tmp_path / "image.tar", config, passwd=passwd.encode(), group=group.encode())
    check_fails(bayplan, manifest, "Container/one", "no user" if where == "passwd" else "no ")
    bayplan.delete("test")
