"""Listings of the whole machine, to show that something left no trace. No product code."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path


def machine(folder: Path) -> dict[str, object]:
    """Return mounts, links, cgroups, nft tables, pinned namespaces, and all files of *folder*."""
    return {
        "mounts": sorted(line.split()[4] for line in _lines("/proc/self/mountinfo")),
        "links": sorted(name for _, name in socket.if_nameindex()),
        "cgroups": sorted(
            name
            for top in Path("/sys/fs/cgroup").iterdir()
            if top.is_dir()
            for name in map(str, top.iterdir())
            if "bayplan" in name
        ),
        "tables": subprocess.run(
            ["nft", "list", "tables"], capture_output=True, text=True, check=True
        ).stdout,
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
