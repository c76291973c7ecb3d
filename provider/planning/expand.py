"""Resources to instances: which things on which hosts. Pure."""

from collections.abc import Iterable, Mapping

from provider.model.ids import InstanceId, Kind
from provider.model.resource import Resource

_NOTHING_TO_MAKE = frozenset({Kind.PROJECT, Kind.HOST})


def is_ports(instance: InstanceId) -> bool:
    """Return whether *instance* is the published ports of a Service, and not a container."""
    return instance.resource.kind is Kind.SERVICE and instance.index < 0


def expand(resource: Resource, existing: Iterable[InstanceId] = ()) -> tuple[InstanceId, ...]:
    """Return the instances of *resource*, in the order they are brought up.

    A Service: its replicas spread over the hosts, then its published ports (index -1) on each
    host that was selected. *existing* instances stay where they are, as long as their host is
    selected and not overfull, so that adding a host or a replica moves as little as possible.
    """
    if resource.id.kind in _NOTHING_TO_MAKE or not resource.hosts:
        return ()
    if resource.id.kind is Kind.SERVICE:
        placed = {i.index: i.host for i in existing if i.index >= 0}
        spread = spread_replicas(resource.spec["replicas"], resource.hosts, placed)
        return (
            *(InstanceId(resource.id, host, index) for index, host in enumerate(spread)),
            *(InstanceId(resource.id, host) for host in resource.hosts),
        )
    if resource.id.kind is Kind.JOB and not resource.spec["perHost"]:
        at = next((i.host for i in existing if i.host in resource.hosts), resource.hosts[0])
        return (InstanceId(resource.id, at),)
    return tuple(InstanceId(resource.id, host) for host in resource.hosts)


def spread_replicas(
    replicas: int, hosts: tuple[str, ...], placed: Mapping[int, str]
) -> tuple[str, ...]:
    """Return the host of each replica, by index: even, and close to *placed*."""
    load = dict.fromkeys(hosts, 0)
    share, extra = divmod(replicas, len(hosts))
    result: list[str | None] = [None] * replicas
    for index in range(replicas):
        host = placed.get(index, "")
        full = share + (1 if extra else 0)
        if host in load and load[host] < full:
            result[index] = host
            load[host] += 1
            if load[host] > share:
                extra -= 1
    for index in range(replicas):
        if result[index] is None:
            host = min(hosts, key=lambda h: load[h])
            result[index] = host
            load[host] += 1
    return tuple(host for host in result if host is not None)
