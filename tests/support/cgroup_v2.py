"""A fake cgroup v2 tree: plain folders with the kernel's files in them.

A new group's files are there beforehand, as the kernel would make them; nothing is opened with
O_CREAT, so a name that v2 does not have is an error here too.
"""

import os
from pathlib import Path

import pytest

from runtime.cgroup.group import Cgroup
from runtime.cgroup.hierarchy import Hierarchy
from runtime.kernel import ebpf

CONTROLLERS = "cpuset cpu io memory hugetlb pids"

NEW_GROUP = {
    "cgroup.controllers": "cpu io memory pids\n",
    "cgroup.subtree_control": "",
    "cgroup.procs": "",
    "cgroup.kill": "",
    "cgroup.freeze": "0\n",
    "cgroup.events": "populated 0\nfrozen 0\n",
    "memory.max": "max\n",
    "memory.high": "max\n",
    "memory.low": "0\n",
    "memory.swap.max": "max\n",
    "memory.oom.group": "0\n",
    "memory.current": "4096\n",
    "memory.reclaim": "",
    "cpu.max": "max 100000\n",
    "cpu.weight": "100\n",
    "pids.max": "max\n",
    "io.max": "",
    "io.weight": "default 100\n",
}


class Host:
    """A v2 host in a folder."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # They are the one thing that is no file, and have tests of their own.
        monkeypatch.setattr(ebpf, "attached", lambda _group: {})
        self.root = folder / "cg"
        self.write(
            self.root, {"cgroup.controllers": CONTROLLERS + "\n", "cgroup.subtree_control": ""}
        )
        mountinfo = folder / "mountinfo"
        mountinfo.write_text(f"30 20 0:30 / {self.root} rw - cgroup2 cgroup2 rw\n")
        self.hierarchy = Hierarchy.detect(str(mountinfo))
        self.parent = self.root / "bayplan-t"
        self.write(
            self.parent,
            {"cgroup.controllers": "cpu io memory pids\n", "cgroup.subtree_control": ""},
        )
        self.folder = self.parent / "box"
        self.group = Cgroup(self.hierarchy, "bayplan-t/box")

    def write(self, folder: Path, content: dict[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in content.items():
            (folder / name).write_text(text)

    def make(self, **changes: str | None) -> None:
        """Make the group as the kernel would; None leaves a file out (``memory_max`` is a name)."""
        content: dict[str, str] = dict(NEW_GROUP)
        for key, text in changes.items():
            name = key.replace("__", "\0").replace("_", ".").replace("\0", "_")
            if text is None:
                del content[name]
            else:
                content[name] = text
        self.write(self.folder, content)

    def read(self, name: str) -> str:
        return (self.folder / name).read_text().strip()

    def files(self) -> set[str]:
        return set(os.listdir(self.folder))
