"""Published ports in a world of an ordinary user: on the host they are the holder's to open.

The firewall of such a world is that of its own network namespace, into which the holder hands on
what comes to the host's ports (`runtime.rootless`). In a world of root there is nothing to do.
"""

from collections.abc import Iterator
from contextlib import suppress

from runtime.errors import NetworkError, SupervisorError
from runtime.network.deviation import Deviation
from runtime.network.model import Publication
from runtime.network.ruleset import Ruleset, Wanted, build
from runtime.root import Root
from runtime.rootless.forwards import Forward, arrives_at, in_the_way
from runtime.rootless.variable import holder

CODE = "host-port"
"""Of the deviations found here."""


def _arrivals(ip: str) -> tuple[str, ...]:
    """Return the addresses in this network namespace for one address of the host."""
    return (ip,) if holder() is None else tuple(dict.fromkeys((ip, arrives_at(ip))))


def ruleset_of(root: Root, wanted: Wanted) -> Ruleset:
    """Return what the table of *root* should hold in this network namespace."""
    return build(root.nft_table, wanted, arrivals=_arrivals)


def refuse(publication: Publication) -> None:
    """Refuse what no ordinary user can publish.

    Raises:
        NetworkError: says why.
    """
    if holder() is not None:
        try:
            arrives_at(publication.ip)
        except ValueError as error:
            raise NetworkError(f"port {publication}: {error}") from None


def widen(root: Root, before: Wanted, after: Wanted) -> None:
    """Open the ports of *after*, and leave those of *before* open beside them where that can be.

    Raises:
        NetworkError: the host does not give one; nothing has changed.
    """
    if holder() is not None and (old := _ports(before)) != (new := _ports(after)):
        _forward(root, old - in_the_way(old, new) | new)


def settle(root: Root, wanted: Wanted) -> None:
    """Open the ports of *wanted*, and no others; idempotent.

    Raises:
        NetworkError: the host does not give one; nothing has changed.
    """
    if holder() is not None and _open(root) != (ports := _ports(wanted)):
        _forward(root, ports)


def deviations(root: Root, wanted: Wanted) -> Iterator[Deviation]:
    """Yield where the host hands on other ports than are *wanted*."""
    if holder() is None:
        return
    there, ports = _open(root), _ports(wanted)
    owners = {_port(p): owner for owner, given in wanted.publications.items() for p in given}
    for port in sorted(ports - there):
        yield Deviation(
            CODE,
            f"port {port} of the host is not handed on into the network of this user",
            owner=owners[port],
            consequences=(f"port {port} of {owners[port]} is closed",),
            owners=(owners[port],),
        )
    for port in sorted(there - ports):
        yield Deviation(CODE, f"port {port} of the host is handed on, and nobody publishes it")


def _forward(root: Root, ports: frozenset[Forward]) -> None:
    from runtime.rootless.client import forward

    try:
        forward(str(root.state), ports)
    except SupervisorError as error:
        raise NetworkError(str(error)) from error


def _open(root: Root) -> frozenset[Forward]:
    from runtime.rootless.client import forwards

    with suppress(SupervisorError):  # without a holder nothing is handed on
        return forwards(str(root.state))
    return frozenset()


def _ports(wanted: Wanted) -> frozenset[Forward]:
    return frozenset(
        _port(publication)
        for given in wanted.publications.values()
        for publication in given
        if publication.backends
    )


def _port(publication: Publication) -> Forward:
    return Forward(publication.protocol, publication.ip, publication.port)
