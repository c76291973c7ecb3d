"""What can be known to be in the way of a container before anything is touched."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from provider.drivers.publication import owner_of
from provider.engine.ports import Finding
from provider.model.plan import Action, Verb
from provider.model.tree import Tree
from runtime.network import firewall
from runtime.root import Root

_TCP_LISTEN = "0A"
_PROC_NET = {"tcp": ("tcp", "tcp6"), "udp": ("udp", "udp6")}


def check_actions(root: Root, actions: Sequence[Action]) -> Iterable[Finding]:
    """Yield what would make *actions* fail. Read-only."""
    wanted = [a for a in actions if a.verb is not Verb.DELETE and a.after is not None]
    leaving = {owner_of(a.id.resource) for a in actions if a.verb is Verb.DELETE}
    claims = [
        (p, owner) for owner, published in firewall.publications(root).items() for p in published
    ]
    for action in wanted:
        after: Tree = action.after or {}
        owner = owner_of(action.id.resource)
        for port in after.get("publish") or ():
            holders = [o for p, o in claims if _overlaps(p, port) and o not in (owner, *leaving)]
            ours = any(o == owner and _overlaps(p, port) for p, o in claims)
            text = f"port {port['port']}/{port['protocol']}"
            if holders:
                yield Finding(f"{text} is published by {holders[0]}", action.id, refusal=True)
            elif not ours and listening(port["protocol"], port["port"], address=port["ip"]):
                yield Finding(
                    f"{text} is in use by a program of this host", action.id, refusal=True
                )
        if "container" in after:
            yield from _sources(action, after["container"])


def _overlaps(claim: firewall.Publication, port: Tree) -> bool:
    """Tell whether both cannot be had: same port, on one address or on all."""
    if (claim.protocol, claim.port) != (port["protocol"], port["port"]):
        return False
    return claim.ip == port["ip"] or "0.0.0.0" in (claim.ip, port["ip"])


def _sources(action: Action, container: Tree) -> Iterable[Finding]:
    for use in container["volumes"]:
        if use["bind"] and not use["create"] and not Path(use["bind"]).exists():
            yield Finding(
                f"bind source {use['bind']} does not exist; make it, or say create: true",
                action.id,
                refusal=True,
            )
    for use in container["devices"]:
        if not Path(use["path"]).exists():
            yield Finding(f"device {use['path']} does not exist", action.id, refusal=True)


def listening(protocol: str, port: int, *, address: str, proc: str = "/proc/net") -> bool:
    """Tell whether a socket of this network namespace is bound to the port.

    *address* ``0.0.0.0`` meets any. Source: Documentation/networking/proc_net_tcp.rst.
    """
    for name in _PROC_NET[protocol]:
        try:
            lines = Path(proc, name).read_text().splitlines()[1:]
        except FileNotFoundError:
            continue
        for line in lines:
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
