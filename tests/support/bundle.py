"""OCI bundles made from busybox, and ``bayplan-oci`` to run them with."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.container.defaults import (
    MASKED_PATHS,
    READONLY_PATHS,
    default_capabilities,
    default_mounts,
    default_namespaces,
)
from runtime.json_data import to_json
from runtime.spec import Linux, Process, RootFs, Spec
from tests.support.box import APPLETS
from tests.support.waiting import wait_until

COMMAND = str(Path(sys.executable).with_name("bayplan-oci"))
ID = "box"


class Bundle:
    """One bundle and its container, called `ID`, below a test's world folder."""

    def __init__(self, world: Path) -> None:
        self.path = world / "bundle"
        self.root = world / "oci"
        tag = hashlib.sha256(bytes(world)).hexdigest()[:4]
        self.cgroup = f"bayplan-{tag}-{ID}"
        for name in ("bin", "etc", "proc", "sys", "dev", "tmp"):
            (self.path / "rootfs" / name).mkdir(parents=True)
        shutil.copy("/bin/busybox", self.path / "rootfs/bin/busybox")
        for applet in APPLETS:
            (self.path / "rootfs/bin" / applet).symlink_to("busybox")
        spec = Spec(
            process=Process(("sh",), env=("PATH=/bin",), capabilities=default_capabilities()),
            root=RootFs("rootfs"),
            hostname="box",
            mounts=default_mounts(),
            linux=Linux(
                namespaces=default_namespaces(),
                cgroups_path=f"/{self.cgroup}",
                masked_paths=MASKED_PATHS,
                readonly_paths=READONLY_PATHS,
            ),
        )
        self.config = to_json(spec)

    def sh(self, script: str) -> None:
        """Have the container run a shell script."""
        self.config["process"]["args"] = ["sh", "-c", script]

    def with_user_namespace(self, first: int = 100000) -> None:
        """Give it a user namespace whose ids begin at *first*, who owns the root."""
        linux = self.config["linux"]
        linux["namespaces"].append({"type": "user"})
        for name in ("uidMappings", "gidMappings"):
            linux[name] = [{"containerID": 0, "hostID": first, "size": 1000}]
        for folder, folders, files in os.walk(self.path / "rootfs"):
            for name in (*folders, *files, ""):
                os.chown(os.path.join(folder, name), first, first, follow_symlinks=False)

    def command(self) -> list[str]:
        """Return how the command is called."""
        return [COMMAND, "--root", str(self.root)]

    def call(
        self, *words: str, before: tuple[str, ...] = (), **options
    ) -> subprocess.CompletedProcess[str]:
        """Run the command, by the one *before*, with the config written; its output is text."""
        (self.path / "config.json").write_text(json.dumps(self.config))
        arguments = [*before, *self.command(), *words]
        options = {"capture_output": True, "timeout": 60, **options}
        return subprocess.run(arguments, cwd=self.path, text=True, check=False, **options)

    def do(self, *words: str, **options) -> str:
        """As `call`, for what must succeed; returns standard output."""
        done = self.call(*words, **options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fails(self, *words: str, **options) -> str:
        """As `call`, for what must not succeed; returns the words on standard error."""
        done = self.call(*words, **options)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def run(self, script: str) -> str:
        """Run a script to its end and return what it printed."""
        self.sh(script)
        return self.do("run", ID)

    def start(self, script: str = "sleep 1000", *, verb: str = "run") -> None:
        """Start the container in the background, or only create it."""
        self.sh(script)
        words = ("run", "--detach") if verb == "run" else (verb,)
        self.do(*words, ID, stdin=subprocess.DEVNULL, **_INTO_NULL)

    def state(self) -> dict:
        """Return the container's state."""
        return json.loads(self.do("state", ID))

    def wait_stopped(self) -> None:
        """Wait until the container's process has ended."""
        wait_until(lambda: self.state()["status"] == "stopped")

    def groups(self) -> list[str]:
        """Return the container's cgroups that are there."""
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        mounts = [line.split()[4] for line in lines if " - cgroup" in line]
        return [path for m in mounts if os.path.isdir(path := f"{m}/{self.cgroup}")]

    def limit(self, file: str) -> str:
        """Return what a file of the container's cgroup holds."""
        found = [f"{group}/{file}" for group in self.groups()]
        (path,) = {p for p in found if os.path.exists(p)}
        return Path(path).read_text().strip()


_INTO_NULL = {
    "capture_output": False,
    "stdout": subprocess.DEVNULL,
    "stderr": subprocess.DEVNULL,
}


@contextmanager
def bundle_in(world: Path) -> Iterator[Bundle]:
    """Yield a bundle; its container must leave no process, cgroup or folder when deleted."""
    bundle = Bundle(world)
    try:
        yield bundle
    finally:
        bundle.call("delete", "--force", ID)
    assert bundle.groups() == []
    assert not bundle.root.exists() or os.listdir(bundle.root) == []
