"""What one world left behind, seen without any code of the product.

Everything is read from the kernel or the file tree: mountinfo, links, namespaces, cgroups,
nft tables, processes. Names are derived here once more from the world's folder, on purpose, so
that a mistake in the product's naming cannot hide a leak.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Snapshot:
    """Objects of one world, by kind, as short texts."""

    folder: Path
    objects: frozenset[str]

    @classmethod
    def take(cls, folder: Path) -> Snapshot:
        tag = hashlib.sha256(bytes(folder)).hexdigest()[:4]
        found = [
            *_mounts(str(folder)),
            *_links(f"bp{tag}"),
            *_cgroups(f"bayplan-{tag}"),
            *_tables(f"bayplan_{tag}"),
            *_processes(str(folder)),
            *_open_files(str(folder)),
        ]
        return cls(folder, frozenset(found))

    def wait_settled(self, before: Snapshot, *, timeout_s: float = 5.0) -> list[str]:
        """Return what is here and was not *before*.

        The kernel destroys network namespaces, and with them veth pairs, in its own time; so
        links alone get a bounded grace.
        """
        deadline = time.monotonic() + timeout_s
        leaks = self.objects - before.objects
        while leaks and time.monotonic() < deadline:
            time.sleep(0.05)
            leaks = Snapshot.take(self.folder).objects - before.objects
        return sorted(leaks)


def _mounts(needle: str) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [f"mount {line.split()[4]}" for line in lines if needle in line]


def _links(prefix: str) -> list[str]:
    return [f"link {name}" for _, name in socket.if_nameindex() if name.startswith(prefix)]


def _cgroups(name: str) -> list[str]:
    found = []
    for top in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()):
        group = top / name
        if group.is_dir():
            found += [f"cgroup {folder}" for folder, _, _ in os.walk(group)]
    return found


def _tables(name: str) -> list[str]:
    if not shutil.which("nft"):
        return []
    listing = subprocess.run(["nft", "-j", "list", "tables"], capture_output=True, check=True)
    entries = json.loads(listing.stdout or b"{}").get("nftables", [])
    names = [entry["table"]["name"] for entry in entries if "table" in entry]
    return [f"nft table {n}" for n in names if n == name]


def _processes(needle: str) -> list[str]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if int(pid) == os.getpid():
            continue
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            cwd = os.readlink(f"/proc/{pid}/cwd")
        except (OSError, UnicodeDecodeError):
            continue
        if needle in command or cwd.startswith(needle):
            found.append(f"process {command.strip()} (in {cwd})")
    return found


def _open_files(needle: str) -> list[str]:
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if target.startswith(needle):
            found.append(f"open file {target}")
    return found
