"""Networks, addresses and ports: what cannot work together. Pure."""

import functools
import ipaddress
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from provider.errors import Origin, Problem
from provider.manifest.draft import Catalog, Draft
from provider.manifest.gap import each, share, sound
from provider.model.ids import Kind, ResourceId
from provider.model.tree import Tree, item, join

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Subnet: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Hosts: TypeAlias = Mapping[ResourceId, Sequence[str]]

HOST_GATEWAY = "host-gateway"
_SHORTEST_PREFIX = 8
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
_LONGEST_PREFIX = 30
"""The gateway and one container need two addresses."""


def address_problems(catalog: Catalog, hosts: Hosts) -> Iterator[Problem]:
    """Yield what is wrong with subnets, fixed addresses, name servers and published ports.

    *hosts* are those each resource selects: what never meets on a host never conflicts.
    """
    networks = sorted(
        (draft for draft in catalog if draft.id.kind is Kind.NETWORK), key=lambda d: d.id
    )
    subnets: dict[ResourceId, Subnet] = {}
    yield from each(networks, lambda draft: _network_problems(draft, subnets, catalog, hosts))
    containers = [draft for draft in catalog if draft.container is not None]
    for draft in containers:
        yield from _literals(draft)
    yield from each(containers, _reach)
    yield from each(containers, lambda draft: _internal(draft, catalog))
    yield from _fixed_addresses(containers, catalog, subnets, hosts)
    yield from _port_conflicts(containers, hosts)


def _network_problems(
    draft: Draft, subnets: dict[ResourceId, Subnet], catalog: Catalog, hosts: Hosts
) -> Iterator[Problem]:
    """Yield what is wrong with a Network, and add its subnet to *subnets* if that is right."""
    subnet = _subnet(draft)
    if isinstance(subnet, Problem):
        yield subnet
        return
    if subnet is not None:
        yield from _overlaps(draft, subnet, subnets, catalog, hosts)
        subnets[draft.id] = subnet
    yield from _gateway(draft, subnet)


def parse_address(text: str) -> Address | None:
    """Return the address *text* is, or None."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _subnet(draft: Draft) -> Subnet | Problem | None:
    """Return the subnet of a Network, None where it has none, or what is wrong with it."""
    text = draft.spec["subnet"]
    if text is None:
        return None
    try:
        subnet = ipaddress.ip_network(text, strict=False)
    except ValueError:
        expected = "CIDR, such as 10.20.0.0/24"
        return draft.problem("subnet", f"not a subnet: {text}", expected=expected)
    if str(subnet) != text:
        return draft.problem(
            "subnet",
            f"{text} is an address inside a subnet",
            expected="the subnet itself",
            suggestion=f"did you mean {subnet}?",
        )
    if _is_special(subnet):
        return draft.problem("subnet", f"{text} cannot be used for containers")
    if subnet.prefixlen < _SHORTEST_PREFIX:
        return draft.problem(
            "subnet",
            f"{text} would take most of the world's addresses",
            expected=f"a prefix of /{_SHORTEST_PREFIX} or longer",
        )
    if subnet.version == 4 and subnet.prefixlen > _LONGEST_PREFIX:
        return draft.problem(
            "subnet",
            f"{text} has no room for a gateway and a container",
            expected=f"a prefix of /{_LONGEST_PREFIX} or shorter",
        )
    return subnet


def _is_special(addresses: Address | Subnet) -> bool:
    """Return whether *addresses* are those of no machine in particular."""
    first = addresses if isinstance(addresses, Address) else addresses.network_address
    return (
        first.is_loopback
        or first.is_multicast
        or first.is_reserved
        or (first.version == 4 and first in _THIS_NETWORK)
    )


def _gateway(draft: Draft, subnet: Subnet | None) -> Iterator[Problem]:
    text = draft.spec["gateway"]
    if text is None:
        return
    address = parse_address(text)
    if subnet is None:
        yield draft.problem("gateway", "a gateway needs a subnet", expected="subnet")
    elif address is None:
        yield draft.problem("gateway", f"not an address: {text}")
    elif address not in subnet:
        yield draft.problem("gateway", f"{text} is outside the subnet {subnet}")
    elif address in (subnet.network_address, subnet.broadcast_address):
        yield draft.problem("gateway", f"{text} is not a host address of {subnet}")


def _overlaps(
    draft: Draft,
    subnet: Subnet,
    others: Mapping[ResourceId, Subnet],
    catalog: Catalog,
    hosts: Hosts,
) -> Iterator[Problem]:
    # Plain numbers: of many networks, every pair is looked at.
    first, last = int(subnet.network_address), int(subnet.broadcast_address)

    def one(member: tuple[ResourceId, Subnet]) -> Iterator[Problem]:
        other, taken = member
        apart = last < int(taken.network_address) or first > int(taken.broadcast_address)
        if not apart and subnet.version == taken.version and share(hosts[draft.id], hosts[other]):
            where = _where(catalog, other, "subnet")
            yield draft.problem("subnet", f"{subnet} overlaps {taken} of {other}{where}")

    return each(others.items(), one)


def _literals(draft: Draft) -> Iterator[Problem]:
    yield from each([draft], _extra_hosts)
    yield from each([draft], _name_servers)
    yield from each(published(draft), functools.partial(_listening, draft))


def _extra_hosts(draft: Draft) -> Iterator[Problem]:
    for name, text in draft.spec["container"]["extraHosts"].items():
        if text != HOST_GATEWAY and parse_address(text) is None:
            path = join("container.extraHosts", name)
            yield draft.problem(
                path, f"not an address: {text}", expected=f"an address or {HOST_GATEWAY}"
            )


def _name_servers(draft: Draft) -> Iterator[Problem]:
    dns = draft.spec["container"]["dns"]
    for text in dns["servers"] if dns is not None else ():
        if parse_address(text) is None:
            yield draft.problem("container.dns.servers", f"not an address: {text}")


def _listening(draft: Draft, publication: Tree) -> Iterator[Problem]:
    address = parse_address(publication["ip"])
    here = address is not None and (
        address.is_loopback or address.is_unspecified or not _is_special(address)
    )
    if not here:
        path = item("publish", publish_key(publication))
        yield draft.problem(
            f"{path}.ip",
            f"no host can have the address {publication['ip']}",
            expected="an address of the host, 0.0.0.0 for all",
        )


def published(draft: Draft) -> Iterator[Tree]:
    """Yield the ports *draft* publishes, as far as they are known."""

    def items() -> Iterator[Tree]:
        yield from draft.spec.get("publish", ())

    return sound(items())


def publish_key(published: Tree) -> str:
    """Return the merge key of a published port as it stands in a path: ``0.0.0.0:80/tcp``."""
    return f"{published['ip']}:{published['port']}/{published['protocol']}"


def _reach(draft: Draft) -> Iterator[Problem]:
    """Yield what a network mode makes impossible."""
    container = draft.spec["container"]
    mode = container["networkMode"]
    if mode == "bridge":
        return
    if list(published(draft)):
        why = "its ports are those of the host already" if mode == "host" else "it has no network"
        yield draft.problem("publish", f"networkMode {mode} publishes nothing: {why}")
    if list(sound(container["networks"])):
        yield draft.problem(
            "container.networks",
            f"networkMode {mode} joins no networks",
            suggestion="remove networks, or networkMode",
        )
    if mode == "host":
        for name in container["sysctls"]:
            if name.startswith(("net.", "net/")):
                yield draft.problem(
                    item("container.sysctls", name),
                    f"networkMode host would change {name} of the host",
                )


def _internal(draft: Draft, catalog: Catalog) -> Iterator[Problem]:
    """Yield a problem if all networks are internal, and ports are published."""
    container = draft.spec["container"]
    if container["networkMode"] != "bridge" or not list(published(draft)):
        return
    joined = [_network(catalog, use) for use in container["networks"]]
    if joined and all(network is not None and network.spec["internal"] for network in joined):
        names = ", ".join(use["name"] for use in container["networks"])
        yield draft.problem(
            "publish",
            f"only on internal networks ({names}), which publish no ports",
            suggestion="join a network that is not internal",
        )


def _network(catalog: Catalog, use: Tree) -> Draft | None:
    if use["project"] not in (None, catalog.project):
        return None
    return catalog.get(Kind.NETWORK, use["name"])


def _fixed_addresses(
    containers: Sequence[Draft],
    catalog: Catalog,
    subnets: Mapping[ResourceId, Subnet],
    hosts: Hosts,
) -> Iterator[Problem]:
    taken: dict[tuple[ResourceId, Address], list[tuple[Draft, str]]] = {}

    def one(found: tuple[Draft, Tree]) -> Iterator[Problem]:
        draft, use = found
        if use["ip"] is None:
            return
        path = item("container.networks", use["name"]) + ".ip"
        address = parse_address(use["ip"])
        if address is None:
            yield draft.problem(path, f"not an address: {use['ip']}")
            return
        yield from each([draft], lambda draft: _needed_twice(draft, path, address, hosts))
        network = _network(catalog, use)
        if network is None:
            return
        if network.spec["subnet"] is None:
            yield draft.problem(
                path,
                f"a fixed address needs a subnet on {network.id}",
                suggestion="set spec.subnet there, or leave the address to bayplan",
            )
        elif network.id in subnets:
            fault = _unusable(address, subnets[network.id], network)
            if fault:
                yield draft.problem(path, fault)
                return
            users = taken.setdefault((network.id, address), [])
            text = f"{address} of {network.id} is taken by"
            yield from each(users, lambda other: _taken(draft, path, text, other, hosts))
            users.append((draft, path))

    return each(_joins(containers), one)


def _joins(containers: Sequence[Draft]) -> Iterator[tuple[Draft, Tree]]:
    def uses(draft: Draft) -> Iterator[tuple[Draft, Tree]]:
        for use in draft.spec["container"]["networks"]:
            yield draft, use

    return each(containers, uses)


def _needed_twice(draft: Draft, path: str, address: Address, hosts: Hosts) -> Iterator[Problem]:
    replicas = draft.spec.get("replicas", 1)
    if replicas > 1 and replicas > len(hosts[draft.id]):
        yield draft.problem(path, f"{replicas} replicas cannot share the address {address}")
    if draft.spec.get("update", {}).get("order") == "start-first":
        yield draft.problem(
            path, f"start-first needs {address} twice", suggestion="use order: stop-first"
        )


def _taken(
    draft: Draft,
    path: str,
    text: str,
    other: tuple[Draft, str],
    hosts: Hosts,
) -> Iterator[Problem]:
    owner, place = other
    if share(hosts[draft.id], hosts[owner.id]):
        yield draft.problem(path, f"{text} {owner.id}{_bracket(owner.origin_of(place))}")


def _unusable(address: Address, subnet: Subnet, network: Draft) -> str:
    if address not in subnet:
        return (
            f"{address} is outside {subnet} of {network.id}{_bracket(network.origin_of('subnet'))}"
        )
    if address in (subnet.network_address, subnet.broadcast_address):
        return f"{address} is not a host address of {subnet}"
    gateway = parse_address(network.spec["gateway"] or "") or subnet.network_address + 1
    return f"{address} is the gateway of {network.id}" if address == gateway else ""


class _Use(NamedTuple):
    draft: Draft
    ip: Address
    key: str


def _port_conflicts(containers: Sequence[Draft], hosts: Hosts) -> Iterator[Problem]:
    users: dict[tuple[int, str], list[_Use]] = {}
    for draft in containers:
        for publication in published(draft):
            ip = parse_address(publication["ip"])
            if ip is None:
                continue
            use = _Use(draft, ip, publish_key(publication))
            earlier = users.setdefault((publication["port"], publication["protocol"]), [])
            found = each(earlier, functools.partial(_conflict, use, hosts))
            yield from itertools.islice(found, 1)
            earlier.append(use)


def _conflict(use: _Use, hosts: Hosts, other: _Use) -> Iterator[Problem]:
    if _same_address(use.ip, other.ip) and share(hosts[use.draft.id], hosts[other.draft.id]):
        where = _bracket(other.draft.origin_of(item("publish", other.key)))
        alias = "" if use.key == other.key else f", as {other.key}"
        yield use.draft.problem(
            item("publish", use.key),
            f"{use.key} is published by {other.draft.id} too{alias}{where}",
        )


def _same_address(one: Address, other: Address) -> bool:
    # 0.0.0.0 takes the port on every address; :: on those of both families.
    if one.version != other.version:
        wide = one if one.version == 6 else other
        return wide.is_unspecified
    return one == other or one.is_unspecified or other.is_unspecified


def _where(catalog: Catalog, resource_id: ResourceId, path: str) -> str:
    draft = catalog.get(resource_id.kind, resource_id.name)
    return _bracket(draft.origin_of(path)) if draft else ""


def _bracket(origin: Origin | None) -> str:
    return f" ({origin})" if origin else ""
