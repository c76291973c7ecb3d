"""The three files under /etc that every container gets from us: hosts, hostname, resolv.conf.

Pure: texts in, texts out. The files are written into the container's own folder and bind-mounted,
so that names can change while it runs (the file is rewritten in place, the inode stays).
"""

from collections.abc import Iterable, Mapping, Sequence

GATEWAY_NAME = "host-gateway"
"""In extra hosts: stands for the address of the host on the container's first network."""


def hosts_file(
    hostname: str,
    addresses: Sequence[str],
    extra_hosts: Mapping[str, str],
    *,
    gateway: str | None,
) -> str:
    """Return the text of /etc/hosts; *addresses* are the container's own, first network first.

    See hosts(5).
    """
    lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
    for name, address in sorted(extra_hosts.items()):
        if address == GATEWAY_NAME:
            address = gateway or "127.0.0.1"
        lines.append(f"{address}\t{name}")
    own = addresses or ["127.0.1.1"]
    lines += [f"{address}\t{hostname}" for address in own]
    return "\n".join(lines) + "\n"


def resolv_conf(
    servers: Iterable[str], search: Iterable[str] = (), options: Iterable[str] = ()
) -> str:
    """Return the text of /etc/resolv.conf. See resolv.conf(5)."""
    lines = [f"nameserver {server}" for server in servers]
    if search := list(search):
        lines.append("search " + " ".join(search))
    if options := list(options):
        lines.append("options " + " ".join(options))
    return "\n".join(lines) + "\n"
