"""What the global options say."""

import os
from collections.abc import Mapping

from runtime.cli.arguments import UsageError, one
from runtime.cli.folder import Folder, is_id
from runtime.cli.report import Report
from runtime.errors import UnsupportedHostError
from runtime.kernel.procfs import is_confined
from runtime.kernel.readable import Wait, wait_readable

_ROOT = "/run/bayplan-oci"


def _default_root() -> str:
    """Return where containers are unless told: in a user namespace /run is somebody else's."""
    session = os.environ.get("XDG_RUNTIME_DIR", "")
    if is_confined() and os.path.isabs(session):
        return os.path.join(session, os.path.basename(_ROOT))
    return _ROOT


class Context:
    """Where containers are, who makes their cgroups, and where errors go."""

    def __init__(self, options: Mapping[str, list[str]], report: Report) -> None:
        """Read them.

        Raises:
            UsageError: there is no such cgroup manager.
            UnsupportedHostError: we are not root.
        """
        if os.geteuid() != 0:
            raise UnsupportedHostError(
                "not root: an ordinary user is root in a user namespace (as of `podman unshare`)"
            )
        self.report = report
        self.wait: Wait = wait_readable
        """For what may take as long as it likes; a command in the foreground has its own way."""
        self.root = os.path.abspath(one(options, "root") or _default_root())
        manager = one(options, "cgroup-manager") or "cgroupfs"
        if "systemd-cgroup" in options:
            manager = "systemd"
        if manager not in ("cgroupfs", "systemd", "disabled"):
            raise UsageError(f"cgroup manager is cgroupfs, systemd or disabled, not {manager}")
        self.has_cgroups = manager != "disabled"
        self.has_scopes = manager == "systemd"
        """Whether new containers get a scope of systemd's; those that are there tell themselves."""

    def folder(self, container_id: str) -> Folder:
        """Return the folder of a container, which need not exist.

        Raises:
            UsageError: that is no id.
        """
        if not is_id(container_id):
            raise UsageError(f"not a container id: {container_id!r}")
        return Folder(self.root, container_id)
