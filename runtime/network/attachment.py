"""Containers on networks: their addresses, links and names.

A container holds a lease on each network it is on, from its first start until it is removed; while
it runs there is a link with that address in its namespace. As for networks, every function is
idempotent, and records are written before the kernel is changed.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from runtime.errors import ConflictError, NotFoundError
from runtime.kernel.netlink import Netlink
from runtime.network import dns, ipam, plumbing, rtnetlink, store
from runtime.network.hostlock import host_lock
from runtime.network.model import Attachment, Lease, Network, Record
from runtime.root import Root


def attach(
    root: Root,
    network_id: str,
    container_id: str,
    netns: str,
    *,
    ip: str | None = None,
    avoid: Collection[str] = (),
    names: Sequence[str] = (),
    interface: str = "eth0",
    servers: Sequence[str] = (),
) -> Attachment:
    """Give the container an address, a link in the namespace pinned at *netns*, and its names.

    A container already holding a lease keeps its address; without *ip*, a new one gets none of
    *avoid*, which others will ask for. *interface* is ``eth`` and a number;
    the default route is that of the lowest on a network that is not internal. *servers* answer
    what our DNS server does not know, instead of the host's. What the container sends from now on
    gets through.

    Raises:
        NotFoundError: no such network.
        ConflictError: *ip* is held by another container, or this one holds another address.
        NetworkError: *ip* is not of the subnet, the subnet is full, or netns or bridge is gone.
    """
    plumbing.interface_number(interface)
    with host_lock(root, f"attach {container_id} to {network_id}"), Netlink() as netlink:
        record = store.load(root, network_id)
        lease = record.lease_of(container_id)
        if lease is None:
            lease = _lease(record, container_id, ip, avoid)
        elif ip is not None and ip != lease.ip:
            raise ConflictError(
                f"container {container_id} holds {lease.ip} on network {network_id}, not {ip}"
            )
        if lease.link and lease.interface != interface:
            netlink.request([rtnetlink.delete_link(lease.link)])
        if not plumbing.has_link(netlink, lease, netns):
            lease = replace(lease, link=_link_name(root))
        lease = replace(
            lease,
            interface=interface,
            names=tuple(names),
            servers=tuple(servers),
            netns=netns,
        )
        _put(root, record, lease)
        # Who repairs, under the same lock, is not to find it half connected.
        plumbing.connect(record.network, lease)
    plumbing.await_operation(lease)
    return _attachment(record.network, lease)


def detach(root: Root, network_id: str, container_id: str) -> None:
    """Take the container off one network: link, names and lease; absent is fine.

    Deleting a link takes some 20 ms; a container that ends is rather given to ``release``.
    """
    with host_lock(root, f"detach {container_id} from {network_id}"), Netlink() as netlink:
        try:
            record = store.load(root, network_id)
        except NotFoundError:
            return
        lease = record.lease_of(container_id)
        if lease is None:
            return
        netlink.request([rtnetlink.delete_link(lease.link)])
        plumbing.forget_neighbour(netlink, record.network, lease.ip)
        _drop(root, record, container_id)


def park(root: Root, container_id: str) -> None:
    """Keep the container's leases but expect no links: it is stopped, its netns deleted."""
    with host_lock(root, f"park {container_id}"):
        for record in store.load_all(root):
            lease = record.lease_of(container_id)
            if lease is not None and lease.netns:
                _put(root, record, replace(lease, netns=""))


def cut(root: Root, container_id: str) -> None:
    """Delete the container's links, for whom others hold its namespace: its leases stay."""
    with host_lock(root, f"cut {container_id}"), Netlink() as netlink:
        for record in store.load_all(root):
            lease = record.lease_of(container_id)
            if lease is not None and lease.link:
                netlink.request([rtnetlink.delete_link(lease.link)])


def pass_on(root: Root, network_id: str, ip: str, *, former: str, heir: str) -> None:
    """Give *heir*, which has none there, the address that *former* holds but does not use.

    Whoever holds another address, or is attached, keeps it. Idempotent.
    """
    with host_lock(root, f"pass {ip} on to {heir}"):
        record = store.load(root, network_id)
        lease = record.lease_of(former)
        if lease is None or lease.ip != ip or lease.netns or record.lease_of(heir):
            return
        _drop(root, record, former)
        rest = tuple(other for other in record.leases if other is not lease)
        _put(root, replace(record, leases=rest), replace(lease, container=heir, link="", names=()))


def release(root: Root, container_id: str) -> None:
    """Give back all leases and names of the container; links die with its netns; idempotent."""
    with host_lock(root, f"release {container_id}"):
        held = [record for record in store.load_all(root) if record.lease_of(container_id)]
        if not held:
            return
        with Netlink() as netlink:
            for record in held:
                lease = record.lease_of(container_id)
                assert lease is not None
                plumbing.forget_neighbour(netlink, record.network, lease.ip)
                _drop(root, record, container_id)


def set_names(root: Root, network_id: str, container_id: str, names: Sequence[str]) -> None:
    """Replace the container's names on the network.

    Raises:
        NotFoundError: the container holds no lease on it.
    """
    with host_lock(root, f"name {container_id}"):
        record = store.load(root, network_id)
        lease = record.lease_of(container_id)
        if lease is None:
            raise NotFoundError(f"container {container_id} is not on network {network_id}")
        _put(root, record, replace(lease, names=tuple(names)))


def leases(root: Root) -> tuple[tuple[str, Lease], ...]:
    """Return (network id, lease) of every lease, ordered."""
    return tuple(
        (record.network.id, lease) for record in store.load_all(root) for lease in record.leases
    )


def attachments(root: Root, container_id: str) -> tuple[Attachment, ...]:
    """Return the container's attachments as recorded, by interface."""
    found = [
        _attachment(record.network, lease)
        for record in store.load_all(root)
        if (lease := record.lease_of(container_id)) is not None
    ]
    return tuple(sorted(found, key=lambda a: plumbing.interface_number(a.interface)))


def relink(root: Root, network_id: str, container_id: str, *, strip: bool = False) -> None:
    """Mend the container's link, addresses and route; a link that is gone is made anew.

    With *strip* addresses that are not ours go from its interface.

    Raises:
        NotFoundError: the container holds no lease on it.
        NetworkError: netns or bridge is gone.
    """
    with host_lock(root, f"mend {container_id}"), Netlink() as netlink:
        record = store.load(root, network_id)
        lease = record.lease_of(container_id)
        if lease is None:
            raise NotFoundError(f"container {container_id} is not on network {network_id}")
        if not plumbing.has_link(netlink, lease, lease.netns):
            lease = replace(lease, link=_link_name(root))
            _put(root, record, lease)
        plumbing.connect(record.network, lease, strip=strip)


def _lease(record: Record, container_id: str, ip: str | None, avoid: Collection[str]) -> Lease:
    holders = {lease.ip: lease.container for lease in record.leases}
    if ip is not None and ip in holders:
        raise ConflictError(f"address {ip} is held by container {holders[ip]}")
    address = ipam.choose_address(
        record.network.subnet,
        {*holders, *(avoid if ip is None else ())},
        gateway=record.network.gateway,
        after=record.cursor,
        wanted=ip,
    )
    return Lease(container=container_id, ip=address, interface="", link="")


def _link_name(root: Root) -> str:
    return f"{root.link_prefix}v{store.next_number(root, 'link'):x}"


def _put(root: Root, record: Record, lease: Lease) -> None:
    """Store *lease* in place of the container's former one, if it says something new."""
    former = record.lease_of(lease.container)
    if former == lease:
        return

    def put(leases: tuple[Lease, ...]) -> tuple[Lease, ...]:
        if former is None:
            return (*leases, lease)
        return tuple(lease if old is former else old for old in leases)

    cursor = lease.ip if former is None else record.cursor
    _store(root, replace(record, cursor=cursor), lease.container, put)


def _drop(root: Root, record: Record, container_id: str) -> None:
    _store(
        root,
        record,
        container_id,
        lambda leases: tuple(lease for lease in leases if lease.container != container_id),
    )


def _store(
    root: Root,
    record: Record,
    container_id: str,
    change: Callable[[tuple[Lease, ...]], tuple[Lease, ...]],
) -> None:
    record = replace(record, leases=change(record.leases))
    store.save(root, record)
    dns.update_zones(root, container_id, record)


def _attachment(network: Network, lease: Lease) -> Attachment:
    return Attachment(
        network=network.id,
        container=lease.container,
        ip=lease.ip,
        prefix=network.prefix,
        mac=lease.mac,
        host_link=lease.link,
        interface=lease.interface,
        gateway=network.gateway,
        internal=network.internal,
    )
