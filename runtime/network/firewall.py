"""Published ports and isolation: one nft table per world, changed in atomic steps.

``state/networks/firewall.json`` is what should be; the kernel is brought there by the difference.
The file is written first: after a crash between the two the table deviates, and ``finish`` mends
it.
"""

import ipaddress
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from runtime.errors import ConflictError, NetworkError, UnsupportedHostError
from runtime.kernel.netlink import Netlink
from runtime.kernel.nfnetlink import Flow, forget_udp_flows, open_netfilter
from runtime.network import hostports, mark, nft, rtnetlink
from runtime.network.files import read_json, write_json
from runtime.network.hostlock import host_lock
from runtime.network.model import ANY_ADDRESS, Network
from runtime.network.model import Publication as Publication
from runtime.network.ruleset import (
    Wanted,
    Zone,
    delete_script,
    delta_script,
    full_script,
)
from runtime.root import Root

VERSION = 1
PROTOCOLS = ("tcp", "udp")


class Change:
    """What one commit will do. Nothing reaches the kernel before the commit ends."""

    def __init__(self, wanted: Wanted) -> None:
        self._zones = dict(wanted.zones)
        self._publications = dict(wanted.publications)
        self._resting = wanted.resting

    @property
    def wanted(self) -> Wanted:
        """All of it, as it will be."""
        backends = {
            ip for given in self._publications.values() for p in given for ip, _ in p.backends
        }
        # An address that is behind no port any more may be somebody else's tomorrow.
        resting = self._resting & backends
        return Wanted(dict(self._zones), dict(self._publications), resting)

    def publish(
        self, owner: str, publications: Sequence[Publication], *, takes_over: Collection[str] = ()
    ) -> None:
        """Make *publications* all that *owner* publishes.

        What owners it *takes_over* from publish of that is withdrawn there.

        Raises:
            ConflictError: another owner publishes the port, on that address or on all of them
                (or on one, where all are asked for); names it.
            NetworkError: a publication makes no sense, or a backend is on an internal network.
        """
        _check(publications)
        self._refuse_internal(publications)
        mine = {publication.key: publication for publication in publications}
        if len(mine) < len(publications):
            raise ConflictError(f"{owner} publishes one port twice")
        for other, theirs in tuple(self._publications.items()):
            met = {k: p for k in theirs if other != owner for p in publications if p.meets(k)}
            if met and other not in takes_over:
                raise ConflictError(f"port {next(iter(met.values()))} is published by {other}")
            if met:
                self.publish(other, [known for known in theirs if known not in met])
        if mine:
            self._publications[owner] = tuple(sorted(mine.values()))
        else:
            self.unpublish(owner)

    def unpublish(self, owner: str) -> None:
        """Withdraw all that *owner* publishes; nothing is fine."""
        self._publications.pop(owner, None)

    def rest(self, addresses: Iterable[str]) -> None:
        """Make *addresses* all those backends that nothing new goes to while others are up."""
        self._resting = frozenset(addresses)

    def _refuse_internal(self, publications: Sequence[Publication]) -> None:
        for network_id, zone in self._zones.items():
            subnet = ipaddress.IPv4Network(zone.subnet)
            for publication in publications if zone.internal else ():
                for ip, _ in publication.backends:
                    if ipaddress.IPv4Address(ip) in subnet:
                        raise NetworkError(
                            f"port {publication} cannot be published: {ip} is on the internal "
                            f"network {network_id}"
                        )

    def add_network(self, network: Network) -> None:
        """Let the network's packets through as its kind says."""
        self._zones[network.id] = Zone(
            network.bridge, network.subnet, network.gateway, network.internal
        )

    def remove_network(self, network_id: str) -> None:
        """Forget the network; unknown is fine."""
        self._zones.pop(network_id, None)


_open = threading.local()


@contextmanager
def commit(root: Root) -> Iterator[Change]:
    """Change the table in one atomic step when the block ends; nothing if it raises.

    Takes the host lock. Commits of one thread nest: the outermost one is the step.
    UDP flows whose backends changed are forgotten, so that they follow.

    Raises:
        UnsupportedHostError: there is no nft.
        NetworkError: nft refused, or did not answer.
    """
    changes: dict[Root, Change] = _open.__dict__.setdefault("changes", {})
    if root in changes:
        yield changes[root]
        return
    with host_lock(root, "change the firewall"):
        before = wanted(root)
        change = changes[root] = Change(before)
        try:
            yield change
        finally:
            del changes[root]
        _commit(root, before, change.wanted)


def publish(root: Root, owner: str, publications: Sequence[Publication]) -> None:
    """One commit with one publish."""
    with commit(root) as change:
        change.publish(owner, publications)


def unpublish(root: Root, owner: str) -> None:
    """One commit with one unpublish."""
    with commit(root) as change:
        change.unpublish(owner)


def publications(root: Root) -> dict[str, tuple[Publication, ...]]:
    """Return what should be published, by owner."""
    return dict(wanted(root).publications)


def wanted(root: Root) -> Wanted:
    """Return everything the table should be made from."""
    body: Any = read_json(wanted_file(root))
    if body is None:
        return Wanted()
    if body["version"] != VERSION:
        raise NetworkError(f"{wanted_file(root)} is of version {body['version']}, not {VERSION}")
    return Wanted(
        {network_id: Zone(**zone) for network_id, zone in body["zones"].items()},
        {
            owner: tuple(_publication(given) for given in publications)
            for owner, publications in body["publications"].items()
        },
        frozenset(body.get("resting", ())),
    )


def reload(root: Root) -> None:
    """Replace the table by what should be there, whatever it holds; connections go on."""
    with host_lock(root, "mend the firewall"):
        target = wanted(root)
        _load(root, None, target, _whole(root, target))
        hostports.settle(root, target)


def is_changing(root: Root) -> bool:
    """Tell whether a commit is at work, or was killed there."""
    return _pending(root).exists()


def finish(root: Root) -> None:
    """Bring the table to what a commit had written down that was killed before it did so itself."""
    if not is_changing(root):
        return
    with host_lock(root, "finish a change of the firewall"):
        if is_changing(root):  # not just the commit of somebody at work
            reload(root)
            _pending(root).unlink()


def _commit(root: Root, before: Wanted, after: Wanted) -> None:
    if after == before:
        return
    hostports.widen(root, before, after)
    pending = _pending(root)
    pending.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    pending.touch(mode=0o600)
    _save(root, after)
    try:
        _apply(root, before, after)
    except BaseException as error:
        _save(root, before)
        # Else the kernel may have got it all the same, and `finish` sees to that.
        if isinstance(error, (nft.NftError, UnsupportedHostError)):
            hostports.settle(root, before)
            pending.unlink()
        raise
    hostports.settle(root, after)
    pending.unlink()
    _forget_flows(before, after)


def _apply(root: Root, before: Wanted, after: Wanted) -> None:
    if Wanted() not in (before, after):
        script = delta_script(hostports.ruleset_of(root, before), hostports.ruleset_of(root, after))
        try:
            _load(root, before, after, script)
        except nft.NftError:
            # The table was not what it should have been. It will be.
            _load(root, None, after, _whole(root, after))
    else:
        _load(root, None, after, _whole(root, after))


def _whole(root: Root, target: Wanted) -> str:
    if target == Wanted():
        return delete_script(root.nft_table)
    return full_script(hostports.ruleset_of(root, target))


def _load(root: Root, before: Wanted | None, after: Wanted, script: str) -> None:
    """Load *script*, which makes *after* of *before*, or of anything (None)."""
    if script:
        with open_netfilter() as netlink, mark.following(root, netlink, before, after):
            nft.load(script)


def _forget_flows(before: Wanted, after: Wanted) -> None:
    old, new = _udp_ports(before), _udp_ports(after)
    changed = {
        key: new.get(key, ()) for key in old.keys() | new.keys() if old.get(key) != new.get(key)
    }
    if not changed:
        return
    with Netlink() as netlink:
        local = {
            address.partition("/")[0]
            for given in rtnetlink.addresses(netlink).values()
            for address in given
        }
    with open_netfilter() as netlink:
        forget_udp_flows(netlink, _strayed(changed, local))


def _strayed(
    changed: dict[tuple[str, int], tuple[tuple[str, int], ...]], local: set[str]
) -> Callable[[Flow], bool]:
    def doomed(flow: Flow) -> bool:
        here = flow.destination in local or flow.destination.startswith("127.")
        for ip in (ANY_ADDRESS, flow.destination) if here else ():
            backends = changed.get((ip, flow.port))
            if backends is not None:
                return (flow.answers_from, flow.answers_port) not in backends
        return False

    return doomed


def _udp_ports(target: Wanted) -> dict[tuple[str, int], tuple[tuple[str, int], ...]]:
    return {
        (publication.ip, publication.port): target.serving(publication)
        for given in target.publications.values()
        for publication in given
        if publication.protocol == "udp"
    }


def _check(publications: Sequence[Publication]) -> None:
    for publication in publications:
        if publication.protocol not in PROTOCOLS:
            raise NetworkError(f"port {publication}: protocol is one of {', '.join(PROTOCOLS)}")
        for port in (publication.port, *(port for _, port in publication.backends)):
            if not 0 < port < 65536:
                raise NetworkError(f"port {publication}: {port} is no port")
        for ip in (publication.ip, *(ip for ip, _ in publication.backends)):
            try:
                ipaddress.IPv4Address(ip)
            except ValueError:
                raise NetworkError(f"port {publication}: {ip} is no IPv4 address") from None
        hostports.refuse(publication)


def _save(root: Root, target: Wanted) -> None:
    path = wanted_file(root)
    if target == Wanted():
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    body = {
        "version": VERSION,
        "zones": {network_id: asdict(zone) for network_id, zone in target.zones.items()},
        "publications": {
            owner: [asdict(publication) for publication in publications]
            for owner, publications in target.publications.items()
        },
        "resting": sorted(target.resting),
    }
    write_json(path, body, safe=True)


def _publication(given: dict[str, Any]) -> Publication:
    backends = tuple((ip, port) for ip, port in given["backends"])
    return replace(Publication(**{**given, "backends": ()}), backends=backends)


def wanted_file(root: Root) -> Path:
    """Return where that is kept which the table should be made from."""
    return root.state / "networks" / "firewall.json"


def _pending(root: Root) -> Path:
    """Return a file that is there while file and kernel may differ."""
    return root.state / "networks" / "firewall.pending"
