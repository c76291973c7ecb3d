"""What one world left behind, seen without any code of the product.

Everything is read from the kernel or the file tree: mountinfo, links, namespaces, cgroups,
nft tables, processes; and, of worlds whose projects were deleted, leases, folders, half-written
files, and what is left of images. Names are derived here once more from the world's folder, on
purpose, so that a mistake in the product's naming cannot hide a leak.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.support.waiting import SLOWNESS


@dataclass(frozen=True)
class Snapshot:
    """Objects of one world, by kind, as short texts."""

    folder: Path | None
    objects: frozenset[str]
    files: bool = False
    """It looked at what should go when projects are deleted, too."""

    @classmethod
    def take(cls, folder: Path | None, *, files: bool = False) -> Snapshot:
        """Look at the world below *folder*, or the default one, as it is.

        The default world's links are told by a prefix that other worlds' have as well: look at it
        on a machine that has no others.
        """
        if folder is None:
            tag, lib, run = "", Path("/var/lib/bayplan"), Path("/run/bayplan")
        else:
            tag = hashlib.sha256(bytes(folder)).hexdigest()[:6]
            lib, run = folder / "lib", folder / "run"
        folders = (str(folder),) if folder else (str(lib), str(run))
        table = f"bayplan_{tag}" if tag else "bayplan"
        found = [
            *(what for place in folders for what in _mounts(place)),
            *_links(f"bp{tag}"),
            *_cgroups(f"bayplan-{tag}" if tag else "bayplan"),
            *_tables(table),
            *(what for place in folders for what in _processes(place)),
            *(what for place in folders for what in _open_files(place)),
            *(_files(lib, run) if files else ()),
        ]
        return cls(folder, frozenset(found), files)

    def wait_settled(self, before: Snapshot | None = None, *, timeout_s: float = 5.0) -> list[str]:
        """Return what is here and was not *before*, which was nothing unless it is given.

        The kernel destroys network namespaces, and with them veth pairs, in its own time; so
        links alone get a bounded grace.
        """
        deadline = time.monotonic() + timeout_s * SLOWNESS
        old = before.objects if before else frozenset()
        leaks = self.objects - old
        while leaks and time.monotonic() < deadline:
            time.sleep(0.05)
            leaks = Snapshot.take(self.folder, files=self.files).objects - old
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
    """Return the nft table of that name, and what is in it of published ports."""
    if not shutil.which("nft"):
        return []
    listing = subprocess.run(["nft", "-j", "list", "tables"], capture_output=True, check=True)
    entries = json.loads(listing.stdout or b"{}").get("nftables", [])
    names = [entry["table"]["name"] for entry in entries if "table" in entry]
    found = [f"nft table {n}" for n in names if n == name]
    return found + (_elements(name) if found else [])


def _elements(table: str) -> list[str]:
    """Return the published ports in the kernel, whoever put them there."""
    found = []
    for name in ("published", "published_at"):
        words = ["nft", "-j", "list", "map", "inet", table, name]
        listing = subprocess.run(words, capture_output=True, check=False)
        for entry in json.loads(listing.stdout)["nftables"] if listing.returncode == 0 else ():
            elements = entry.get("map", {}).get("elem", [])
            found += [f"element {json.dumps(element[0])} of {name}" for element in elements]
    return found


def _processes(needle: str) -> list[str]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if int(pid) == os.getpid():
            continue
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                line = file.read()
            if not line:
                continue  # of the kernel
            cwd = os.readlink(f"/proc/{pid}/cwd")
            command = line.replace(b"\0", b" ").decode()
        except (OSError, UnicodeDecodeError):
            continue
        if needle in command or cwd.startswith(needle):
            found.append(f"process {command.strip()} (in {cwd})")
    return found


def _files(lib: Path, run: Path) -> list[str]:
    return [
        *_entries("container", lib / "containers", run / "containers"),
        *_entries("container", lib / "removed"),
        *_entries("netns", run / "netns"),
        *_entries("secret", run / "secrets"),
        *_entries("volume", lib / "volumes"),
        *_leases(lib / "networks" / "by-id"),
        *_published(lib / "networks" / "firewall.json"),
        *_unfinished(lib),
        *_unfinished(run),
        *_unused_images(lib),
    ]


def _entries(kind: str, *folders: Path) -> list[str]:
    return [f"{kind} {path}" for folder in folders if folder.is_dir() for path in folder.iterdir()]


def _leases(folder: Path) -> list[str]:
    found = []
    for path in folder.glob("*.json"):
        record = json.loads(path.read_text())
        found.append(f"network {path.stem}")
        found += [f"lease {lease['ip']} of {lease['container']}" for lease in record["leases"]]
    return found


def _published(path: Path) -> list[str]:
    body = json.loads(path.read_text()) if path.exists() else {"publications": {}}
    return [f"publication {owner}" for owner in body["publications"]]


def _unfinished(top: Path) -> list[str]:
    """Return files with the names that writers here use before they rename."""
    pattern = re.compile(r"\.tmp-.*|.*\.tmp|\..+\.\d+|incoming")
    found = []
    for folder, below, files in os.walk(top):
        found += [f"half {folder}/{n}" for n in (*below, *files) if pattern.fullmatch(n)]
        # What containers and images call their files is theirs.
        below[:] = [name for name in below if name not in ("data", "fs", "upper", "work")]
    return found


def _unused_images(lib: Path) -> list[str]:
    """Return blobs and layers that no entry of the index leads to."""
    blobs = lib / "images" / "blobs" / "sha256"
    index = lib / "images" / "index.json"
    todo = json.loads(index.read_text())["manifests"] if index.exists() else []
    used, layers = set(), set()
    while todo:
        name = todo.pop()["digest"].removeprefix("sha256:")
        used.add(name)
        manifest = json.loads((blobs / name).read_text())
        todo += manifest.get("manifests", [])
        used |= {part["digest"].removeprefix("sha256:") for part in manifest.get("layers", [])}
        if "config" in manifest:
            name = manifest["config"]["digest"].removeprefix("sha256:")
            used.add(name)
            config = json.loads((blobs / name).read_text())
            layers |= {i.removeprefix("sha256:") for i in config["rootfs"]["diff_ids"]}
    found = [f"image {p.name}" for p in (blobs.iterdir() if blobs.is_dir() else ())]
    unpacked = lib / "layers"
    folders = unpacked.iterdir() if unpacked.is_dir() else ()
    return [name for name in found if name.split()[1] not in used] + [
        f"layer {path.name}" for path in folders if path.name.partition("-")[0] not in layers
    ]


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
