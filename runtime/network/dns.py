"""Zone files for the DNS server, and a container's resolv.conf.

A zone file, ``run/dns/<gateway>.json``, says everything the server must know of one network, so
that the server needs no other file and no right to any. Derived from the leases alone.

What is asked for (see ``dnszone``): names and aliases of attached containers, the asker's own
networks only; a name of several replicas gives all addresses, in turn. Addresses of the subnet
resolve back. Everything else, single words included, goes to the host's name servers, as with
Docker; but never from an internal network, which would be a way out: there it does not exist.
"""

import os
from collections.abc import Iterable, Sequence
from typing import Any

from runtime.documents import read_note
from runtime.network import store
from runtime.network.files import write_json
from runtime.network.model import Attachment, Record
from runtime.root import Root

RESOLV_CONF = "/etc/resolv.conf"

Zone = dict[str, Any]


def resolv_conf(
    attachments: Sequence[Attachment],
    *,
    servers: Sequence[str] = (),
    search: Sequence[str] = (),
    options: Sequence[str] = (),
    host_file: str = RESOLV_CONF,
) -> str:
    """Return the text of /etc/resolv.conf of a container.

    On networks of ours it asks our server, which asks *servers* in turn if they were given to
    ``attach`` as well. Without attachments: *servers*, or all that the host has.
    """
    host = host_resolv_conf(host_file)
    if attachments:
        servers = tuple(dict.fromkeys(attachment.gateway for attachment in attachments))
        # Names without a dot are ours to answer: ask for them as they are before searching.
        options = tuple(options) or ("ndots:0",)
    lines = [f"nameserver {server}" for server in servers or host["nameserver"]]
    domains = search or host["search"]
    if domains:
        lines.append(f"search {' '.join(domains)}")
    chosen = options or host["options"]
    if chosen:
        lines.append(f"options {' '.join(chosen)}")
    return "\n".join(lines) + "\n"


def host_resolv_conf(path: str) -> dict[str, tuple[str, ...]]:
    """Return ``nameserver``, ``search`` and ``options`` of the host; see resolv.conf(5)."""
    found: dict[str, tuple[str, ...]] = {"nameserver": (), "search": (), "options": ()}
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return found
    for line in lines:
        words = line.split()
        if len(words) < 2:
            continue
        if words[0] == "nameserver":
            found["nameserver"] += (words[1],)
        elif words[0] in ("search", "domain"):
            found["search"] = tuple(words[1:])
        elif words[0] == "options":
            found["options"] += tuple(words[1:])
    return found


def zone(record: Record, records: Iterable[Record]) -> Zone:
    """Return the content of the network's zone file; pure.

    ``names`` maps each name, in lower case, to its addresses; ``hosts`` each address to its first
    name; ``clients`` each address that needs it to the gateways of the container's other networks,
    whose zones it asks too, and to its own upstream servers. Only attached containers count.
    """
    names: dict[str, list[str]] = {}
    hosts: dict[str, str] = {}
    clients: dict[str, dict[str, list[str]]] = {}
    joined: dict[str, list[str]] = {}
    for other in records:
        if other.network.id != record.network.id:
            for lease in other.leases:
                if lease.netns:
                    joined.setdefault(lease.container, []).append(other.network.gateway)
    for lease in record.leases:
        if not lease.netns:
            continue
        for name in lease.names:
            names.setdefault(name.lower(), []).append(lease.ip)
        if lease.names:
            hosts[lease.ip] = lease.names[0].lower()
        others = joined.get(lease.container, [])
        if others or lease.servers:
            clients[lease.ip] = {"networks": others, "servers": list(lease.servers)}
    return {
        "network": record.network.id,
        "subnet": record.network.subnet,
        "internal": record.network.internal,
        "names": names,
        "hosts": hosts,
        "clients": clients,
    }


def write_zones(root: Root) -> None:
    """Write all zone files anew where they differ from the leases; idempotent."""
    records = store.load_all(root)
    for record in stale(root, records):
        _write(root, record, records)
    known = {_file(record) for record in records}
    folder = root.run / "dns"
    for name in os.listdir(folder) if folder.is_dir() else ():
        if name.endswith(".json") and name not in known:
            (folder / name).unlink(missing_ok=True)


def update_zones(root: Root, container_id: str, changed: Record) -> None:
    """Write the zones that *changed* and its container's other networks make different."""
    records = store.load_all(root)
    for record in records:
        if record.network.id == changed.network.id or record.lease_of(container_id):
            _write(root, record, records)


def stale(root: Root, records: Sequence[Record]) -> tuple[Record, ...]:
    """Return the records whose zone file is missing or says something else."""
    folder = root.run / "dns"
    return tuple(
        record for record in records if read_note(folder / _file(record)) != zone(record, records)
    )


def _file(record: Record) -> str:
    return f"{record.network.gateway}.json"


def _write(root: Root, record: Record, records: Sequence[Record]) -> None:
    root.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = root.run / "dns"
    try:
        folder.mkdir(mode=0o755)
        # The server looks names up in here as nobody, through a descriptor it got as root.
        folder.chmod(0o755)
    except FileExistsError:
        pass
    write_json(folder / _file(record), zone(record, records), mode=0o644)
