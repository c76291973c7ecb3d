"""Published traffic goes to those containers behind a port that are up, while any of them is.

The supervisor tells which are to be ``spared``, in their status, and runs this when that changes.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from runtime.errors import ContainerError
from runtime.network import firewall, store
from runtime.network.ruleset import Wanted
from runtime.root import Root, world_of
from runtime.supervisor.client import Supervisor
from runtime.supervisor.status import read_recorded


def follow(root: Root, container_id: str | None = None) -> None:
    """Let new connections go to who is up; idempotent, and takes no lock where all is well.

    With *container_id* that is one in whose traffic something may have changed, and no other.

    Raises:
        NetworkError: nft refused.
    """
    wanted = firewall.wanted(root)
    if container_id is not None:
        ips = {ip for ip, who in _holders(root).items() if who == container_id}
        ips &= _backends(wanted)
        if wanted.resting & ips == (ips if _is_resting(root, container_id) else set()):
            return
    if _resting(root, wanted) != wanted.resting:
        with firewall.commit(root) as change:
            change.rest(_resting(root, change.wanted))


@contextmanager
def withdrawn(root: Root, container_id: str) -> Iterator[None]:
    """Let nothing new go to a container that is to be ended in here, while others are up.

    Its supervisor writes that down first, so that ``follow`` says the same. Who ends it does so
    in any case: where the firewall cannot be changed now, the supervisor keeps trying.
    """
    with ExitStack() as opened:
        with suppress(ContainerError, OSError):
            backends = _backends(firewall.wanted(root))
            ips = backends and {ip for ip, who in _holders(root).items() if who == container_id}
            if ips & backends:
                with suppress(ContainerError):  # one of a version before this cannot be told
                    opened.enter_context(Supervisor(root, start=False).spare(container_id))
                with firewall.commit(root) as change:
                    change.rest(change.wanted.resting | ips)
        yield


def _resting(root: Root, wanted: Wanted) -> frozenset[str]:
    backends = _backends(wanted)
    if not backends:
        return frozenset()
    holders = _holders(root)
    return frozenset(ip for ip in backends if _is_resting(root, holders.get(ip)))


def _is_resting(root: Root, container_id: str | None) -> bool:
    if container_id is None:
        return True  # it was removed by hand
    status = read_recorded(str(root.run / "containers" / container_id))
    return status is not None and status.spared


def _holders(root: Root) -> dict[str, str]:
    """Return the container behind each address."""
    return {lease.ip: lease.container for record in store.load_all(root) for lease in record.leases}


def _backends(wanted: Wanted) -> set[str]:
    """Return the addresses among which a choice is made."""
    return {
        ip
        for published in wanted.publications.values()
        for publication in published
        if len(publication.backends) > 1
        for ip, _ in publication.backends
    }


def main(arguments: Sequence[str]) -> None:
    """Do what ``follow`` does in the world named by state folder, run folder and cgroup."""
    root = world_of(*arguments[:3])
    try:
        firewall.finish(root)
        follow(root)
    except (ContainerError, OSError) as error:
        print(f"cannot move published traffic: {error}", file=sys.stderr)
        sys.exit(1)
