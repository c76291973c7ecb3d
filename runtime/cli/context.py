"""What the global options say."""

import os
from collections.abc import Mapping

from runtime.cli.arguments import UsageError, one
from runtime.cli.folder import Folder
from runtime.cli.report import Report
from runtime.errors import UnsupportedHostError

DEFAULT_ROOT = "/run/bayplan-oci"


class Context:
    """Where containers are, who makes their cgroups, and where errors go."""

    def __init__(self, options: Mapping[str, list[str]], report: Report) -> None:
        """Read them.

        Raises:
            UsageError: there is no such cgroup manager.
            UnsupportedHostError: we are not root.
        """
        if os.geteuid() != 0:
            raise UnsupportedHostError("not root: containers of other users are not supported")
        self.report = report
        self.root = os.path.abspath(one(options, "root") or DEFAULT_ROOT)
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
        allowed = all(c.isascii() and (c.isalnum() or c in "_+-.") for c in container_id)
        if not container_id or not allowed or container_id in (".", ".."):
            raise UsageError(f"not a container id: {container_id!r}")
        return Folder(self.root, container_id)
