"""The nouns: a network, a lease on one of its addresses, what attaching gives."""

from runtime.network.ipam import mac_of
from runtime.record import dataclass

ANY_ADDRESS = "0.0.0.0"


@dataclass(frozen=True, slots=True)
class Network:
    """One bridge and its subnet."""

    id: str
    number: int
    """Unique in this world, never reused; part of the bridge's name."""
    bridge: str
    subnet: str
    """``10.72.3.0/24``"""
    gateway: str
    """The bridge's own address, and the DNS server's."""
    internal: bool
    """No way out, no way in, no published ports."""
    mtu: int

    @property
    def prefix(self) -> int:
        """Length of the subnet's prefix."""
        return int(self.subnet.rpartition("/")[2])

    @property
    def mac(self) -> str:
        """The bridge's hardware address; derived, so that it survives a new bridge."""
        return mac_of(self.gateway)


@dataclass(frozen=True, slots=True)
class Lease:
    """An address of one network, held by a container until it is released."""

    container: str
    """The owner's id."""
    ip: str
    interface: str
    """Name inside the container: ``eth0``."""
    link: str
    """Name of the veth's host end; a new one for each veth, never reused."""
    names: tuple[str, ...] = ()
    """What other containers of the network may call it."""
    netns: str = ""
    """Where the namespace is pinned, while the container should be attached; else empty."""
    servers: tuple[str, ...] = ()
    """Name servers its other questions go to, instead of the host's."""

    @property
    def mac(self) -> str:
        """Hardware address of the container's interface, derived from its address."""
        return mac_of(self.ip)

    @property
    def place(self) -> tuple[int, str]:
        """Compares as its interface stands among the container's: eth2 comes before eth10."""
        return len(self.interface), self.interface


@dataclass(frozen=True, slots=True)
class Record:
    """What is stored of one network: it, its leases, and where the next free one is looked for."""

    network: Network
    leases: tuple[Lease, ...] = ()
    cursor: str = ""
    """Address given last: an address is reused as late as possible."""

    def lease_of(self, container: str) -> Lease | None:
        """Return the container's lease on this network."""
        for lease in self.leases:
            if lease.container == container:
                return lease
        return None


@dataclass(frozen=True, slots=True)
class Attachment:
    """A container on a network."""

    network: str
    container: str
    ip: str
    prefix: int
    mac: str
    host_link: str
    interface: str
    gateway: str
    internal: bool


@dataclass(frozen=True, slots=True, order=True)
class Publication:
    """A port of the host, balanced over *backends*."""

    port: int
    protocol: str
    """``tcp`` or ``udp``"""
    backends: tuple[tuple[str, int], ...] = ()
    """(address, port) each; none: the port is claimed, and closed."""
    ip: str = "0.0.0.0"
    """Of the host; ``0.0.0.0`` is all of its addresses, localhost included."""

    @property
    def key(self) -> tuple[str, str, int]:
        """What no two publications may share."""
        return self.ip, self.protocol, self.port

    def meets(self, other: "Publication") -> bool:
        """Tell whether some packets are meant for both: one port, on one address or on all."""
        if (self.protocol, self.port) != (other.protocol, other.port):
            return False
        return self.ip == other.ip or ANY_ADDRESS in (self.ip, other.ip)

    def __str__(self) -> str:
        where = "" if self.ip == ANY_ADDRESS else f"{self.ip}:"
        return f"{where}{self.port}/{self.protocol}"
