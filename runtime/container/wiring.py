"""A container's network side: its namespace, links and addresses, and the /etc files about them."""

from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType

from runtime.container.config import ContainerConfig, Join
from runtime.container.etc import hosts_file
from runtime.container.files import rewrite_file
from runtime.container.folders import netns_path, private_folder, run_folder
from runtime.network import attachment, dns, netns, network
from runtime.network.model import Attachment
from runtime.root import Root
from runtime.supervisor.client import Supervisor

NOTHING: Mapping[str, Collection[str]] = MappingProxyType({})
ETC_FILES = ("hosts", "hostname", "resolv.conf")


def etc_source(root: Root, container_id: str, name: str) -> Path:
    """Return the host's file behind one of ETC_FILES, for the container's mounts."""
    return run_folder(root, container_id) / "etc" / name


def connect(
    root: Root, config: ContainerConfig, *, avoid: Mapping[str, Collection[str]] = NOTHING
) -> tuple[Attachment, ...]:
    """Give the container its namespace and links; returns what it is attached to.

    Of each network, addresses to *avoid* are left to those that will ask for them.
    """
    if config.network_mode in ("host", "container"):
        return ()
    path = str(netns_path(root, config.id))
    netns.create(path)
    for join in config.joins:
        network.ensure_there(root, join.network)
    attachments = tuple(
        _attach(root, config, path, join, position, avoid.get(join.network, ()))
        for position, join in enumerate(config.joins)
    )
    gateways = [a.gateway for a in attachments]
    if gateways:
        Supervisor(root).dns(gateways)
    return attachments


def _attach(
    root: Root,
    config: ContainerConfig,
    path: str,
    join: Join,
    position: int,
    avoid: Collection[str],
) -> Attachment:
    return attachment.attach(
        root,
        join.network,
        config.id,
        path,
        ip=join.ip,
        avoid=avoid,
        names=join.names,
        interface=f"eth{position}",
        servers=config.dns_servers,
    )


def write_etc(root: Root, config: ContainerConfig, attachments: tuple[Attachment, ...]) -> None:
    """Write the files that ETC_FILES binds, in place; idempotent.

    Who is in the network of another container has that one's.
    """
    if config.network_of:
        return
    folder = run_folder(root, config.id) / "etc"
    private_folder(folder)
    hostname = config.spec.hostname or config.id
    texts = {
        "hostname": f"{hostname}\n",
        "hosts": hosts_file(
            hostname,
            [a.ip for a in attachments],
            config.extra_hosts,
            gateway=attachments[0].gateway if attachments else None,
        ),
        "resolv.conf": dns.resolv_conf(
            attachments,
            servers=config.dns_servers,
            search=config.dns_search,
            options=config.dns_options,
        ),
    }
    for name, text in texts.items():
        rewrite_file(folder / name, text.encode())
