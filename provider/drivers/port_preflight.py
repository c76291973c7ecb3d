"""Who has a port of this host already: containers of ours, programs, other worlds, other NAT."""

import itertools
from collections.abc import Callable, Collection, Iterator
from functools import cached_property
from pathlib import Path

from provider.engine.ports import Finding
from provider.model.ids import InstanceId
from runtime.errors import ContainerError
from runtime.network import firewall
from runtime.network.claims import Claim, foreign_claims
from runtime.network.firewall import Publication
from runtime.root import Root
from runtime.rootless.outside import outside

_TCP_LISTEN = "0A"
_PROC_NET = {"tcp": ("tcp", "tcp6"), "udp": ("udp", "udp6")}


class Ports:
    """The ports of this host as they are now. Read-only.

    Tables of others are read once, and only if something is asked for that was not published
    before.
    """

    def __init__(self, root: Root) -> None:
        self._root = root
        self._known = firewall.publications(root)

    @cached_property
    def _foreign(self) -> tuple[Claim, ...]:
        return foreign_claims(self._root)

    def in_the_way(
        self,
        wanted: Publication,
        *,
        own: Collection[str] = (),
        leaving: Collection[str] = (),
        instance: InstanceId | None = None,
    ) -> Iterator[Finding]:
        """Yield what is in the way of publishing *wanted*, about *instance*.

        What *own* owners publish already is theirs; what those *leaving* publish is no hindrance.
        """
        text = f"port {wanted.port}/{wanted.protocol}"
        for owner, published in self._known.items():
            others = owner not in own and owner not in leaving
            if others and any(map(wanted.meets, published)):
                yield Finding(f"{text} is published by {owner}", instance, refusal=True)
                return
        if any(wanted.key == p.key for owner in own for p in self._known.get(owner, ())):
            return
        # What another owner is leaving, the holder of a user's namespaces still listens on.
        held = any(map(wanted.meets, itertools.chain(*self._known.values())))
        if problem := _taken(wanted, held=held):
            yield Finding(f"{text} {problem}", instance, refusal=True)
            return
        try:
            claims = [claim for claim in self._foreign if claim.takes(wanted)]
        except ContainerError as error:
            yield Finding(f"{text}: {error}", instance, refusal=True)
            return
        # Of one world, or of one program, a single word is enough.
        for claim in sorted(claims, key=lambda claim: not claim.of_world)[:1]:
            yield _finding(text, claim, instance)


def _finding(text: str, claim: Claim, instance: InstanceId | None) -> Finding:
    if claim.of_world:
        return Finding(
            f"{text} is published by another world of bayplan, nft table {claim.table}: withdraw it"
            f" there, or take another port; if that world is no more: nft delete table"
            f" {claim.table}",
            instance,
            refusal=True,
        )
    takes = "takes" if claim.certain else "may take"
    return Finding(
        f"chain {claim.chain} of nft table {claim.table} {takes} {text}: what comes from outside"
        " does not get here then",
        instance,
    )


def _taken(wanted: Publication, *, held: bool) -> str:
    """Return in words why the host does not give a port, empty if it does.

    An ordinary user's containers have a network of their own; the port must be free there, and,
    unless it is *held* already, on the host.
    """
    host = outside()
    if host is not None and not held:
        if wanted.port < host.first_port:
            return (
                f"is not for ordinary users, who have those from {host.first_port} on (sysctl"
                " net.ipv4.ip_unprivileged_port_start)"
            )
        if listening(wanted.protocol, wanted.port, address=wanted.ip, read=host.sockets):
            return "is in use by a program of this host"
    if listening(wanted.protocol, wanted.port, address=wanted.ip):
        return "is in use by a program of this host"
    return ""


def _sockets(table: str) -> str | None:
    try:
        return Path("/proc/net", table).read_text()
    except FileNotFoundError:
        return None


def listening(
    protocol: str, port: int, *, address: str, read: Callable[[str], str | None] = _sockets
) -> bool:
    """Tell whether a socket of the network namespace that *read* reads is bound to the port.

    *address* ``0.0.0.0`` meets any. Source: Documentation/networking/proc_net_tcp.rst.
    """
    for name in _PROC_NET[protocol]:
        for line in (read(name) or "").splitlines()[1:]:
            _, local, remote, state, *_ = line.split()
            host, _, number = local.rpartition(":")
            if int(number, 16) != port:
                continue
            bound = state == _TCP_LISTEN if protocol == "tcp" else remote.endswith(":0000")
            if bound and (address == "0.0.0.0" or _reaches(host, address)):
                return True
    return False


def _reaches(host: str, address: str) -> bool:
    """Compare a hexadecimal, host-ordered address with a dotted one; any address meets all."""
    if not host.strip("0"):
        return True
    octets = bytes.fromhex(host[-8:])[::-1]
    return ".".join(map(str, octets)) == address
