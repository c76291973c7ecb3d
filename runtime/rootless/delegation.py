"""The cgroup that is delegated to a user's worlds, on a host with cgroup v2 and nothing else.

The service manager of the user makes a *scope* for the holder, which is the top of what is seen
inside. Processes can only be moved within it, not into it: so whatever shall live there, keeper and
supervisor above all, is started by the holder.

Source: systemd-run(1), Documentation/admin-guide/cgroup-v2.rst, "Delegation"; systemd,
CGROUP_DELEGATION.md.
"""

import os
from collections.abc import Mapping, Sequence

from runtime.errors import UnsupportedHostError
from runtime.kernel.procfs import read_cgroup, read_mountinfo
from runtime.rootless.programs import find

MOUNT_POINT = "/sys/fs/cgroup"
_LEAF = "holder"
_SESSION = ("DBUS_SESSION_BUS_ADDRESS",)
"""By which, and the run folder, systemd-run finds the service manager of the user."""


def own_group() -> str | None:
    """Return the folder of this process's group if it may make groups in it; None elsewhere."""
    if not _is_unified():
        return None
    path = (read_cgroup() or {}).get("")
    folder = f"{MOUNT_POINT}{path}".rstrip("/")
    # All three are what a delegated group is given over with.
    files = (folder, f"{folder}/cgroup.procs", f"{folder}/cgroup.subtree_control")
    return folder if all(os.access(file, os.W_OK) for file in files) else None


def _is_unified() -> bool:
    """Tell whether this host has version 2 alone."""
    mounts = [m for m in read_mountinfo() or () if m.mount_point == MOUNT_POINT]
    return bool(mounts) and mounts[-1].fstype == "cgroup2"


def leave_top(group: str) -> None:
    """Move this process into a leaf of *group*: only without processes does it have children."""
    leaf = os.path.join(group, _LEAF)
    os.makedirs(leaf, exist_ok=True)
    procs = os.open(os.path.join(leaf, "cgroup.procs"), os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(procs, b"%d" % os.getpid())
    finally:
        os.close(procs)


def scope_words(environment: Mapping[str, str]) -> tuple[Sequence[str], dict[str, str]]:
    """Return what to put before a command so that it gets a delegated cgroup, and its environment.

    Nothing where there is no service manager to ask for it. A group one could write to already, as
    that of a terminal of the desktop is, has other processes, and so can have no limited children.
    """
    folder = environment.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    manager = os.path.exists(os.path.join(folder, "systemd/private"))
    if not manager or not _is_unified():
        return (), {}
    try:
        program = find("systemd-run", package="systemd")
    except UnsupportedHostError:
        return (), {}
    known = {name: environment[name] for name in _SESSION if name in environment}
    words = (program, "--user", "--scope", "--quiet", "--collect", "--property=Delegate=yes", "--")
    return words, {"XDG_RUNTIME_DIR": folder, **known}
