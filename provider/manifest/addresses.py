"""Networks, addresses and ports: what cannot work together. Pure."""

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from provider.errors import Origin, Problem
from provider.manifest.draft import Catalog, Draft
from provider.model.ids import Kind, ResourceId
from provider.model.tree import Tree, item, join

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Subnet: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Hosts: TypeAlias = Mapping[ResourceId, Sequence[str]]

HOST_GATEWAY = "host-gateway"
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
    for draft in networks:
        subnet, problems = _subnet(draft)
        yield from problems
        if subnet is not None:
            yield from _overlaps(draft, subnet, subnets, catalog, hosts)
            subnets[draft.id] = subnet
    for draft in catalog:
        if draft.container:
            yield from _literals(draft, draft.container)
            yield from _reach(draft, draft.container, catalog)
    yield from _fixed_addresses(catalog, subnets, hosts)
    yield from _port_conflicts(catalog, hosts)


def parse_address(text: str) -> Address | None:
    """Return the address *text* is, or None."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _subnet(draft: Draft) -> tuple[Subnet | None, list[Problem]]:
    text, gateway = draft.spec["subnet"], draft.spec["gateway"]
    if text is None:
        if gateway is None:
            return None, []
        return None, [draft.problem("gateway", "a gateway needs a subnet", expected="subnet")]
    try:
        subnet = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None, [
            draft.problem("subnet", f"not a subnet: {text}", expected="CIDR, such as 10.20.0.0/24")
        ]
    if str(subnet) != text:
        return None, [
            draft.problem(
                "subnet",
                f"{text} is an address inside a subnet",
                expected="the subnet itself",
                suggestion=f"did you mean {subnet}?",
            )
        ]
    if subnet.is_loopback or subnet.is_multicast or subnet.is_unspecified:
        return None, [draft.problem("subnet", f"{text} cannot be used for containers")]
    if subnet.version == 4 and subnet.prefixlen > _LONGEST_PREFIX:
        return None, [
            draft.problem(
                "subnet",
                f"{text} has no room for a gateway and a container",
                expected=f"a prefix of /{_LONGEST_PREFIX} or shorter",
            )
        ]
    return subnet, list(_gateway(draft, subnet))


def _gateway(draft: Draft, subnet: Subnet) -> Iterator[Problem]:
    text = draft.spec["gateway"]
    if text is None:
        return
    address = parse_address(text)
    if address is None:
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
    for other, taken in others.items():
        apart = last < int(taken.network_address) or first > int(taken.broadcast_address)
        if not apart and subnet.version == taken.version and _meet(hosts, draft.id, other):
            where = _where(catalog, other, "subnet")
            yield draft.problem("subnet", f"{subnet} overlaps {taken} of {other}{where}")


def _literals(draft: Draft, container: Tree) -> Iterator[Problem]:
    for name, text in container["extraHosts"].items():
        if text != HOST_GATEWAY and parse_address(text) is None:
            path = join("container.extraHosts", name)
            yield draft.problem(
                path, f"not an address: {text}", expected=f"an address or {HOST_GATEWAY}"
            )
    for text in container["dns"]["servers"] if container["dns"] else ():
        if parse_address(text) is None:
            yield draft.problem("container.dns.servers", f"not an address: {text}")
    for published in draft.spec.get("publish", ()):
        if parse_address(published["ip"]) is None:
            path = item("publish", publish_key(published))
            yield draft.problem(
                f"{path}.ip",
                f"not an address: {published['ip']}",
                expected="an address of the host",
            )


def publish_key(published: Tree) -> str:
    """Return the merge key of a published port as it stands in a path: ``0.0.0.0:80/tcp``."""
    return f"{published['ip']}:{published['port']}/{published['protocol']}"


def _reach(draft: Draft, container: Tree, catalog: Catalog) -> Iterator[Problem]:
    """Yield what a network mode or an internal network makes impossible."""
    mode, networks = container["networkMode"], container["networks"]
    publish = draft.spec.get("publish") or ()
    if mode != "bridge":
        if networks:
            yield draft.problem(
                "container.networks",
                f"networkMode {mode} joins no networks",
                suggestion="remove networks, or networkMode",
            )
        if publish:
            why = (
                "its ports are those of the host already" if mode == "host" else "it has no network"
            )
            yield draft.problem("publish", f"networkMode {mode} publishes nothing: {why}")
        if mode == "host":
            for name in container["sysctls"]:
                if name.startswith("net."):
                    yield draft.problem(
                        item("container.sysctls", name),
                        f"networkMode host would change {name} of the host",
                    )
        return
    joined = [_network(catalog, use) for use in networks]
    if publish and networks and all(net is not None and net.spec["internal"] for net in joined):
        names = ", ".join(use["name"] for use in networks)
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
    catalog: Catalog, subnets: Mapping[ResourceId, Subnet], hosts: Hosts
) -> Iterator[Problem]:
    taken: dict[tuple[ResourceId, Address], list[tuple[Draft, str]]] = {}
    for draft in catalog:
        for use in draft.container["networks"] if draft.container else ():
            if use["ip"] is None:
                continue
            path = item("container.networks", use["name"]) + ".ip"
            address = parse_address(use["ip"])
            if address is None:
                yield draft.problem(path, f"not an address: {use['ip']}")
                continue
            if draft.id.kind is Kind.SERVICE and draft.spec["replicas"] > len(hosts[draft.id]):
                yield draft.problem(
                    path, f"{draft.spec['replicas']} replicas cannot share the address {address}"
                )
            if draft.spec.get("update", {}).get("order") == "start-first":
                yield draft.problem(
                    path, f"start-first needs {address} twice", suggestion="use order: stop-first"
                )
            network = _network(catalog, use)
            if network is None:
                continue
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
                else:
                    taken.setdefault((network.id, address), []).append((draft, path))
    for (network_id, address), users in taken.items():
        for position, (draft, path) in enumerate(users):
            for other, other_path in users[:position]:
                if _meet(hosts, draft.id, other.id):
                    yield draft.problem(
                        path,
                        f"{address} of {network_id} is taken by {other.id}"
                        f"{_bracket(other.origin_of(other_path))}",
                    )


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


def _port_conflicts(catalog: Catalog, hosts: Hosts) -> Iterator[Problem]:
    users: dict[tuple[int, str], list[_Use]] = {}
    for draft in catalog:
        for published in draft.spec.get("publish", ()) if draft.container else ():
            ip = parse_address(published["ip"])
            if ip is None:
                continue
            use = _Use(draft, ip, publish_key(published))
            earlier = users.setdefault((published["port"], published["protocol"]), [])
            for other in earlier:
                if _same_address(ip, other.ip) and _meet(hosts, draft.id, other.draft.id):
                    where = _bracket(other.draft.origin_of(item("publish", other.key)))
                    yield draft.problem(
                        item("publish", use.key),
                        f"{use.key} is published by {other.draft.id} too, as {other.key}{where}"
                        if use.key != other.key
                        else f"{use.key} is published by {other.draft.id} too{where}",
                    )
                    break
            earlier.append(use)


def _same_address(one: Address, other: Address) -> bool:
    # 0.0.0.0 takes the port on every address; :: on those of both families.
    if one.version != other.version:
        wide = one if one.version == 6 else other
        return wide.is_unspecified
    return one == other or one.is_unspecified or other.is_unspecified


def _meet(hosts: Hosts, one: ResourceId, other: ResourceId) -> bool:
    return not set(hosts[one]).isdisjoint(hosts[other])


def _where(catalog: Catalog, resource_id: ResourceId, path: str) -> str:
    draft = catalog.get(resource_id.kind, resource_id.name)
    return _bracket(draft.origin_of(path)) if draft else ""


def _bracket(origin: Origin | None) -> str:
    return f" ({origin})" if origin else ""
