"""Which subnet, which address: pure arithmetic on what is taken already.

Subnets come from one pool that Docker, podman and Kubernetes do not use by default. Addresses are
given out in turn, so that one just given back is reused as late as possible.
"""

import ipaddress
from collections.abc import Collection, Iterable

from runtime.errors import ConflictError, NetworkError

POOL = "10.72.0.0/13"
SUBNET_PREFIX = 24
_MAC_PREFIX = "02:62"
_SMALLEST_PREFIX = 30


def mac_of(ip: str) -> str:
    """Return the hardware address that goes with *ip*: locally administered, ``02:62`` first."""
    return f"{_MAC_PREFIX}:{ipaddress.IPv4Address(ip).packed.hex(':')}"


def choose_subnet(taken: Iterable[str], *, start: int = 0, pool: str = POOL) -> str:
    """Return the first subnet of *pool*, from number *start* on, that overlaps none of *taken*.

    Worlds on one machine start at different places, because each sees what the others took only
    once their bridges stand.

    Raises:
        NetworkError: the pool is used up.
    """
    candidates = ipaddress.IPv4Network(pool)
    size = 1 << (32 - SUBNET_PREFIX)
    count = candidates.num_addresses // size
    obstacles = [network for text in taken if (network := _parse(text)).prefixlen]
    obstacles = [network for network in obstacles if network.overlaps(candidates)]
    for number in range(count):
        first = int(candidates.network_address) + (start + number) % count * size
        subnet = ipaddress.IPv4Network((first, SUBNET_PREFIX))
        if not any(subnet.overlaps(obstacle) for obstacle in obstacles):
            return str(subnet)
    raise NetworkError(f"no free /{SUBNET_PREFIX} is left in {pool}; give the network a subnet")


def check_subnet(subnet: str, taken: Iterable[tuple[str, str]]) -> str:
    """Return *subnet* in canonical form; *taken* is pairs of subnet and what uses it.

    Raises:
        NetworkError: not an IPv4 subnet with room for a container.
        ConflictError: it overlaps one of *taken*; the default route does not count.
    """
    network = _parse(subnet)
    if network.prefixlen > _SMALLEST_PREFIX:
        raise NetworkError(f"subnet {subnet} has no room: at most a /{_SMALLEST_PREFIX} has")
    if network.is_loopback or network.is_multicast or network.prefixlen == 0:
        raise NetworkError(f"subnet {subnet} is not for networks of containers")
    for other, user in taken:
        occupied = _parse(other)
        if occupied.prefixlen and occupied.overlaps(network):
            raise ConflictError(f"subnet {network} overlaps {occupied} of {user}")
    return str(network)


def check_gateway(subnet: str, gateway: str | None) -> str:
    """Return *gateway*, or the first address of *subnet*.

    Raises:
        NetworkError: not a usable address of the subnet.
    """
    network = ipaddress.IPv4Network(subnet)
    if gateway is None:
        return str(network.network_address + 1)
    return str(_host(network, gateway))


def choose_address(
    subnet: str,
    taken: Collection[str],
    *,
    gateway: str,
    after: str = "",
    wanted: str | None = None,
) -> str:
    """Return *wanted*, or the first free address behind *after*, going round at the end.

    Raises:
        ConflictError: *wanted* is taken.
        NetworkError: *wanted* is not of the subnet, or the subnet is full.
    """
    network = ipaddress.IPv4Network(subnet)
    if wanted is not None:
        address = str(_host(network, wanted))
        if address == gateway:
            raise ConflictError(f"address {address} is the gateway of {subnet}")
        if address in taken:
            raise ConflictError(f"address {address} is taken")
        return address
    first, last = int(network.network_address) + 1, int(network.broadcast_address) - 1
    start = int(ipaddress.IPv4Address(after)) if after else first
    count = last - first + 1
    for step in range(1, count + 1):
        address = str(ipaddress.IPv4Address(first + (start - first + step) % count))
        if address != gateway and address not in taken:
            return address
    raise NetworkError(f"subnet {subnet} is full ({len(taken)} addresses held)")


def _host(network: ipaddress.IPv4Network, text: str) -> ipaddress.IPv4Address:
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError:
        raise NetworkError(f"{text} is not an IPv4 address") from None
    edges = (network.network_address, network.broadcast_address)
    if address not in network or address in edges:
        raise NetworkError(f"address {text} is not one of subnet {network}")
    return address


def _parse(subnet: str) -> ipaddress.IPv4Network:
    try:
        return ipaddress.IPv4Network(subnet)
    except ValueError as error:
        raise NetworkError(f"subnet {subnet}: {error}") from None
