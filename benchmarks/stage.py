"""Where a comparison runs: namespaces of its own, so that peers leave nothing on the host.

Podman and Docker change the firewall and the links of the network namespace they run in, and
crun refuses a host whose cgroups are hybrid; in a private namespace they may.
"""

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.calling import call

STAGED = "--staged"
_CGROUPS = Path("/sys/fs/cgroup")
_SWEEP_S = 10.0
_PACKAGES = {
    "podman": ("podman", "crun", "netavark", "aardvark-dns", "iptables"),
    "dockerd": ("docker.io", "iptables"),
    "docker-compose": ("docker-compose",),
}


def enter() -> None:
    """Go on in private network and mount namespaces, with the same arguments; does not return."""
    command = ["unshare", "--net", "--mount", "--propagation", "private", sys.executable]
    os.execvp(command[0], [*command, "-m", "benchmarks", STAGED, *sys.argv[1:]])


def prepare() -> None:
    """Bring up loopback, and show crun a pure version 1 where version 1 has the controllers."""
    call("ip", "link", "set", "lo", "up")
    if (_CGROUPS / "unified").is_mount() and (_CGROUPS / "memory").is_mount():
        call("umount", str(_CGROUPS / "unified"))
        # crun writes into it all the same: not into what other namespaces have there.
        call("mount", "-t", "tmpfs", "none", str(_CGROUPS / "unified"))


def install_peers() -> None:
    """Install what is missing of the peers (Debian)."""
    apt = ["apt-get", "install", "-qq", "-y", "--no-install-recommends"]
    missing = [p for name, ps in _PACKAGES.items() if not shutil.which(name) for p in ps]
    if missing:
        call("apt-get", "update", "-qq")
        call(
            *apt, *missing, env=os.environ | {"RUNLEVEL": "1", "DEBIAN_FRONTEND": "noninteractive"}
        )


@contextmanager
def cgroups_swept() -> Iterator[None]:
    """Remove afterwards the empty cgroups that peers leave at the top."""
    before = set(_top_groups())
    yield
    for group in set(_top_groups()) - before:
        if "bayplan" not in group.name:
            _remove(group)


def _top_groups() -> list[Path]:
    found = [*_CGROUPS.glob("*/"), *_CGROUPS.glob("*/*/")]
    return [group for group in found if (group / "cgroup.clone_children").exists()
            or (group / "cgroup.controllers").exists()]  # fmt: skip


def _remove(group: Path) -> None:
    """Remove a cgroup and all below it, while its last helpers end and do the same."""
    deadline = time.monotonic() + _SWEEP_S
    while group.exists():
        try:
            for child in [g for g in group.iterdir() if g.is_dir()]:
                _remove(child)
            group.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
