"""What somebody could do to a world behind our back, and where its objects are. No product code."""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

from tests.support.cli import Bayplan


def tag_of(world: Path) -> str:
    """Return what the names of the world's kernel objects have in common."""
    return hashlib.sha256(bytes(world)).hexdigest()[:6]


def table_of(world: Path) -> str:
    """Return the name of the world's nft table."""
    return f"bayplan_{tag_of(world)}"


def links_of(world: Path, kind: str) -> list[str]:
    """Return the world's links: *kind* ``n`` bridges, ``v`` veths; oldest first."""
    prefix = f"bp{tag_of(world)}{kind}"
    names = [name for _, name in socket.if_nameindex() if name.startswith(prefix)]
    return sorted(names, key=lambda name: int(name.removeprefix(prefix), 16))


def cgroup_folder(world: Path, container_id: str, controller: str) -> Path:
    """Return the container's group in the hierarchy of *controller*."""
    top = Path("/sys/fs/cgroup")
    for place in (top / controller, top, top / "unified"):
        folder = place / f"bayplan-{tag_of(world)}" / container_id
        if folder.is_dir():
            return folder
    raise AssertionError(f"{container_id} has no cgroup for {controller}")


def container(bayplan: Bayplan, name: str) -> Any:
    """Return what ``ps`` says of a container."""
    (found,) = [c for c in bayplan.json("ps", "-a") if c["name"] == name]
    return found


def nft(*words: str) -> str:
    """Run nft and return what it prints."""
    return run("nft", *words)


def run(*words: str) -> str:
    """Run a command and return what it prints."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


def enter(pid: int, *words: str) -> str:
    """Run nsenter into some namespaces of *pid*: ``enter(1, "-n", "ip", "addr")``."""
    return run("nsenter", "-t", str(pid), *words)


def kill(pid: int) -> None:
    """Kill a process and wait until it is gone."""
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        with os.fdopen(pidfd):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            assert select.select([pidfd], [], [], 10)[0], f"{pid} survives"


def rule_handle(world: Path, chain: str, words: str) -> str:
    """Return the handle of the one rule of *chain* that has *words* in it."""
    listing = nft("-a", "list", "chain", "inet", table_of(world), chain)
    (line,) = [line for line in listing.splitlines() if words in line]
    return line.split()[-1]


def launching(world: Path) -> list[int]:
    """Return the pids of what the world's supervisor has forked and is not yet another program."""
    ours = supervisors(world)
    parents = {pid: _parent(pid) for pid in ours}
    return [pid for pid in ours if parents.get(parents[pid]) in ours]


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def supervisors(world: Path) -> list[int]:
    """Return the pids of the world's keeper and supervisor, and of forks of the latter."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes()
                if b"runtime.supervisor" in command and str(world).encode() in command:
                    found.append(int(entry.name))
    return found
