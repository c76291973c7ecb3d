"""Listings of the whole machine, to show that something left no trace. No product code."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path


def machine(folder: Path) -> dict[str, object]:
    """Return mounts, links, cgroups and nft tables of the machine, and all files of *folder*.

    Other tests may run at the same time: what carries another world's tag is left out, and what
    has the names that tests without a world give (``bayplan-enter-4711``, a folder of pytest's).
    """
    tag = hashlib.sha256(bytes(folder)).hexdigest()[:6]
    others = re.compile(rf"(bayplan[-_]|\bbp)(?!{tag})[0-9a-f]{{6}}|bayplan-\w+-|/pytest-of-")

    def ours(names: Iterable[str]) -> list[str]:
        return sorted(name for name in names if str(folder) in name or not others.search(name))

    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True)
    return {
        "mounts": ours(line.split()[4] for line in _lines("/proc/self/mountinfo")),
        "links": ours(name for _, name in socket.if_nameindex()),
        "cgroups": ours(
            name
            for top in Path("/sys/fs/cgroup").iterdir()
            if top.is_dir()
            for name in map(str, top.iterdir())
            if "bayplan" in name
        ),
        "tables": ours(tables.stdout.splitlines()),
        "files": sorted(str(p) for p in folder.rglob("*")),
        "processes": sorted(_processes(str(folder))),
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def _processes(needle: str) -> list[str]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if needle.encode() in command:
            found.append(f"{pid} {command!r}")
    return found
