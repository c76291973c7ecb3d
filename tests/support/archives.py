"""Docker archives, for images that hold just what a test needs."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path


def write_archive(archive: Path, folder: Path, tag: str) -> None:
    """Write an image of what is below ``folder/root``, and of busybox as its programs."""
    (folder / "root" / "bin").mkdir(parents=True)
    for program in ("sh", "sleep", "cat", "touch"):
        shutil.copy("/bin/busybox", folder / "root" / "bin" / program)
    _tar(folder / "layer.tar", folder / "root", ".")
    digest = subprocess.check_output(["sha256sum", folder / "layer.tar"], text=True).split()[0]
    configuration = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["sleep", "1"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    (folder / "config.json").write_text(json.dumps(configuration))
    entry = {"Config": "config.json", "RepoTags": [tag], "Layers": ["layer.tar"]}
    (folder / "manifest.json").write_text(json.dumps([entry]))
    _tar(archive, folder, "manifest.json", "config.json", "layer.tar")


def _tar(archive: Path, folder: Path, *names: str) -> None:
    subprocess.run(["tar", "-C", folder, "-cf", archive, *names], check=True)
