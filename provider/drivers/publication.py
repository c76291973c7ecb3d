"""Published ports: from a spec and the containers behind it to what the firewall is told. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from provider.model.tree import Tree
from runtime.network.firewall import Publication
from runtime.network.model import Lease, Record

Addresses = Mapping[str, str]
"""Container id -> its address on its first network that is not internal."""


def addresses_of(records: Iterable[Record]) -> Addresses:
    """Return where published traffic goes, for every container that holds a lease."""
    found: dict[str, Lease] = {}
    for record in records:
        if record.network.internal:
            continue
        for lease in record.leases:
            first = found.get(lease.container)
            if first is None or lease.place < first.place:
                found[lease.container] = lease
    return {container: lease.ip for container, lease in found.items()}


def publications(
    publish: Sequence[Tree], containers: Iterable[str], addresses: Addresses
) -> tuple[Publication, ...]:
    """Return one Publication a port, balanced over those *containers* that have an address."""
    reachable = sorted(addresses[c] for c in containers if c in addresses)
    found = (
        Publication(
            port=port["port"],
            protocol=port["protocol"],
            backends=tuple((address, port["targetPort"]) for address in reachable),
            ip=port["ip"],
        )
        for port in publish
    )
    return in_order(found)


def handed_over(
    current: Iterable[Publication],
    ports: Sequence[Tree],
    containers: Iterable[str],
    addresses: Addresses,
) -> tuple[Publication, ...]:
    """Return those of *current* that others take over, as *ports* says, led to *containers*."""
    keys = {(port["ip"], port["protocol"], port["port"]) for port in ports}
    reachable = sorted(addresses[c] for c in containers if c in addresses)
    return tuple(
        replace(port, backends=tuple((address, port.backends[0][1]) for address in reachable))
        for port in current
        if port.key in keys and port.backends
    )


def with_backend(
    current: Iterable[Publication],
    publish: Sequence[Tree],
    *,
    add: str | None,
    remove: Collection[str],
    leased: Iterable[str],
) -> tuple[Publication, ...]:
    """Return *current* with the address *add* behind each port, and *remove* no more.

    A port that has no backend is one of *publish*, which tells its target. Addresses that are
    not *leased* any more go as well.
    """
    targets = {(p["ip"], p["protocol"], p["port"]): p["targetPort"] for p in publish}
    held = set(leased)
    found = []
    for port in current:
        serving = ({address for address, _ in port.backends} | {add}).difference(remove)
        target = port.backends[0][1] if port.backends else targets.get(port.key)
        backends = ((address, target) for address in sorted(held & serving) if target)
        found.append(replace(port, backends=tuple(backends)))
    return in_order(found)


def in_order(found: Iterable[Publication]) -> tuple[Publication, ...]:
    """Return publications in one order, so that equal means equal."""
    return tuple(sorted(found, key=lambda p: (p.ip, p.port, p.protocol, p.backends)))
