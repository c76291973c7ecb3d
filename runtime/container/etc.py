"""/etc/hosts of a container. Pure; resolv.conf is the network's, see runtime.network.dns."""

from collections.abc import Mapping, Sequence

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
