"""Network interfaces of the host by name, through pyroute2: for finding and removing what is left.

The hot path (attaching containers, observing) is runtime.network.rtnetlink, which is ten times
as fast and knows only what it needs; this is for everything else.
"""

from pyroute2 import IPRoute


def names(prefix: str) -> tuple[str, ...]:
    """Return the interfaces of this network namespace that begin with *prefix*, sorted."""
    with IPRoute() as netlink:
        found = (link.get("ifname") for link in netlink.get_links())
        return tuple(sorted(name for name in found if name and name.startswith(prefix)))


def delete(name: str) -> None:
    """Remove an interface, and of a veth the other end; absent is fine."""
    with IPRoute() as netlink:
        for index in netlink.link_lookup(ifname=name):
            netlink.link("del", index=index)
