"""Names in a user's world: its /etc/resolv.conf names slirp4netns, which asks the host's servers.

Those may be on the host's loopback, where nobody in the namespace can reach them.
"""

import os
from contextlib import suppress

from runtime.kernel.mount import MS_BIND, mount
from runtime.rootless.slirp import DNS

FILE = "resolv.conf"
_ETC = "/etc/resolv.conf"
_KEPT = ("search", "domain", "options")


def write_resolv_conf(run: str) -> None:
    """Write the file into the run folder: the host's, but for its name servers."""
    lines = [f"nameserver {DNS}"]
    with suppress(FileNotFoundError), open(_ETC, encoding="utf-8", errors="replace") as file:
        lines += [line.rstrip() for line in file if line.split()[:1] and line.split()[0] in _KEPT]
    with open(os.path.join(run, FILE), "w", encoding="utf-8", errors="replace") as file:
        file.write("\n".join(lines) + "\n")


def show_resolv_conf(run: str) -> None:
    """Have it in the place of the host's, in this mount namespace. Idempotent.

    The kernel takes the mount away when somebody replaces the host's file: so each who enters
    looks again.
    """
    ours = os.path.join(run, FILE)
    with suppress(FileNotFoundError):
        if not os.path.samefile(ours, _ETC):
            mount(ours, os.path.realpath(_ETC), None, MS_BIND)
