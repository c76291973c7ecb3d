"""What a process that has entered a user's namespaces still knows of the host it came from."""

import os

from runtime.record import dataclass

_TABLES = ("tcp", "tcp6", "udp", "udp6")
_FIRST_PORT = "/proc/sys/net/ipv4/ip_unprivileged_port_start"


@dataclass(frozen=True, slots=True)
class Outside:
    """The host's network, as it was left."""

    first_port: int
    """The lowest one that an ordinary user may have."""
    tables: dict[str, int]
    """Descriptors of its /proc/net/tcp and kin: they stay those of the namespace they are of."""

    def sockets(self, table: str) -> str | None:
        """Return what /proc/net/TABLE of the host says now; None if it has no such table."""
        if table not in self.tables:
            return None
        fd = os.dup(self.tables[table])
        with open(fd, encoding="ascii") as file:
            file.seek(0)
            return file.read()


_outside: list[Outside] = []


def remember() -> None:
    """Take along what will be asked for. Before the host's namespaces are left."""
    tables = {}
    for name in _TABLES:
        try:
            tables[name] = os.open(f"/proc/self/net/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # a kernel without IPv6
            continue
    with open(_FIRST_PORT, encoding="ascii") as file:
        first_port = int(file.read())
    _outside[:] = [Outside(first_port, tables)]


def outside() -> Outside | None:
    """Return the host as seen from a user's world; None in a world of root, who is outside."""
    return _outside[0] if _outside else None
