"""Networks as containers use them: the runtime's networks, and the names served on them."""

from contextlib import suppress

from runtime.errors import NotFoundError, StateError
from runtime.network import network
from runtime.root import Root
from runtime.supervisor.client import Supervisor

RUN_NETWORK = "default"
"""The network of containers of no project; made for the first of them, gone with the last."""


def delete_network(root: Root, network_id: str) -> None:
    """Delete a network and stop serving names on it. Idempotent.

    Raises:
        StateError: containers hold addresses on it; names them.
    """
    with suppress(NotFoundError):
        gateway = network.get_network(root, network_id).gateway
        network.delete_network(root, network_id)
        # Without a supervisor (not found either) there is no DNS server to tell.
        Supervisor(root, start=False).dns((), close=[gateway])


def delete_run_network_if_unused(root: Root) -> None:
    """Delete RUN_NETWORK unless somebody is on it. Idempotent."""
    with suppress(StateError):
        delete_network(root, RUN_NETWORK)
