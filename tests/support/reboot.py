"""What a power cut takes of one world, without one: every process and every kernel object."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

from tests.support.drift import table_of, tag_of
from tests.support.waiting import wait_until


def cut_power(world: Path) -> None:
    """Leave of *world* what is on disk; its run folder says that it is of another boot."""
    killed: set[int] = set()
    wait_until(lambda: not _kill(world, killed))
    # An init that ends is in no cgroup any more while the kernel still takes its namespace down.
    wait_until(lambda: not any(map(_is_there, killed)))
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        if line.split()[4].startswith(f"{world}/"):
            subprocess.run(["umount", "-l", line.split()[4]], check=True)
    subprocess.run(
        ["nft", "delete", "table", "inet", table_of(world)], check=False, capture_output=True
    )
    for _, name in socket.if_nameindex():
        if name.startswith(f"bp{tag_of(world)}n"):
            subprocess.run(["ip", "link", "del", name], check=True)
    for group in _groups(world):
        with suppress(OSError):  # removed already, by its release agent
            group.rmdir()
    (world / "run" / "boot").write_text("of another boot\n")
    this_boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    of_it = ("projects/*/journal", "layers/*/layer.json")
    for path in (each for pattern in of_it for each in (world / "lib").glob(pattern)):
        path.write_text(path.read_text().replace(this_boot, "another"))


def _kill(world: Path, killed: set[int]) -> bool:
    """Kill all there is, add it to *killed*; tell whether there was any.

    Once is not enough: a keeper and a supervisor start each other again.
    """
    found = set()
    for group in _groups(world):
        with suppress(OSError):
            found |= set(map(int, (group / "cgroup.procs").read_text().split()))
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if bytes(world / "run") in words:
                found.add(int(pid))
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    killed |= found
    return bool(found)


def _is_there(pid: int) -> bool:
    """Tell whether a process has not ended, whoever is to reap it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _groups(world: Path) -> list[Path]:
    """Return the cgroups of the world in all hierarchies, the innermost first."""
    top = Path("/sys/fs/cgroup")
    tops = [place / f"bayplan-{tag_of(world)}" for place in (top, *top.iterdir())]
    found = [Path(folder) for place in tops for folder, _, _ in os.walk(place)]
    return sorted(found, key=lambda path: -len(path.parts))
