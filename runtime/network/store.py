"""Networks and leases on disk: one file per network, ``state/networks/by-id/<id>.json``.

Write under the host lock; reading needs none, each file is consistent in itself.
"""

import dataclasses
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from runtime.errors import NetworkError, NotFoundError
from runtime.network.files import Stamp, read_json, stamp_of, write_data
from runtime.network.model import Lease, Network, Record
from runtime.root import Root

VERSION = 1
_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,199}")
_FOLDER = "networks"
_RECORDS = "by-id"
_COUNTERS = ("link", "network")


def check_id(network_id: str) -> None:
    """Accept what can be the name of a file.

    Raises:
        NetworkError: it is not.
    """
    if not _ID.fullmatch(network_id):
        raise NetworkError(f"{network_id!r} is not a network id: lower case, digits, . _ -")


def folder(root: Root) -> Path:
    """Return where everything lasting about networks is."""
    return root.state / _FOLDER


def records_folder(root: Root) -> Path:
    """Return where the networks' files are."""
    return folder(root) / _RECORDS


def load(root: Root, network_id: str) -> Record:
    """Return one record.

    Raises:
        NotFoundError: there is no such network.
    """
    check_id(network_id)
    record = _read(_path(root, network_id))
    if record is None:
        raise NotFoundError(f"no network {network_id}")
    return record


def load_all(root: Root) -> tuple[Record, ...]:
    """Return all records by id; nothing where nothing was ever made."""
    try:
        names = sorted(os.listdir(records_folder(root)))
    except FileNotFoundError:
        return ()
    paths = (records_folder(root) / name for name in names if name.endswith(".json"))
    return tuple(record for path in paths if (record := _read(path)) is not None)


def save(root: Root, record: Record, *, durable: bool = False) -> None:
    """Replace the network's file. *durable* for what must outlive a loss of power.

    Leases need not: a sync for each, under the host lock, makes an apply of a hundred containers
    a tenth slower. ext4 writes a file out before it replaces another; elsewhere the loss may leave
    an empty one, which doctor mends.
    """
    network = {name: getattr(record.network, name) for name in _NETWORK_FIELDS}
    head = {"version": VERSION, "network": network, "cursor": record.cursor}
    data = f'{json.dumps(head)[:-1]},"leases":[{",".join(_texts(record.leases))}]}}'
    path = _path(root, record.network.id)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _read_before[str(path)] = (write_data(path, data.encode(), durable=durable), record)


def remove(root: Root, network_id: str) -> None:
    """Forget the network; absent is fine."""
    _path(root, network_id).unlink(missing_ok=True)


def next_number(root: Root, counter: str) -> int:
    """Return a number never returned before in this world; *counter* is ``link`` or ``network``.

    The counter is not synced: after a loss of power it may be behind what the records hold.
    """
    assert counter in _COUNTERS
    base = folder(root)
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(base / f"{counter}.number", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Zeros are what some file systems leave of a file that was not synced.
        counted = int(os.read(fd, 32).strip(b"\0") or b"0")
        number = max(counted, *_numbers_in_use(root, counter)) + 1
        # One write of fixed width: a crash leaves the old or the new number.
        os.pwrite(fd, b"%020d\n" % number, 0)
    finally:
        os.close(fd)
    return number


def _numbers_in_use(root: Root, counter: str) -> Iterator[int]:
    """Yield the numbers that the records hold, and 0."""
    yield 0
    start = f"{root.link_prefix}v"
    for record in load_all(root):
        if counter == "network":
            yield record.network.number
        else:
            for lease in record.leases:
                # A lease that is parked has no link.
                if lease.link.startswith(start):
                    yield int(lease.link.removeprefix(start), 16)


def _path(root: Root, network_id: str) -> Path:
    return records_folder(root) / f"{network_id}.json"


def _read(path: Path) -> Record | None:
    stamp = stamp_of(path)
    known = _read_before.get(str(path))
    if stamp is not None and known is not None and known[0] == stamp:
        return known[1]
    body: Any = read_json(path)
    if body is None:
        return None
    if body["version"] != VERSION:
        raise NetworkError(f"{path} is of version {body['version']}, not {VERSION}")
    leases = tuple(
        Lease(**{**lease, "names": tuple(lease["names"]), "servers": tuple(lease["servers"])})
        for lease in body["leases"]
    )
    record = Record(Network(**body["network"]), leases, body["cursor"])
    if stamp is not None:
        # Taken before reading: if the file was replaced between, the stamp fits no more.
        _read_before[str(path)] = (stamp, record)
    return record


def _texts(leases: Sequence[Lease]) -> list[str]:
    """Return each lease as JSON; of a thousand all but one were written before."""
    if len(_written_before) > 2 * len(leases) + _FEW:
        _written_before.clear()
    texts = []
    for lease in leases:
        known, text = _written_before.get(id(lease), (None, ""))
        if known is not lease:
            text = json.dumps({name: getattr(lease, name) for name in _LEASE_FIELDS})
            _written_before[id(lease)] = (lease, text)
        texts.append(text)
    return texts


# By the object's identity: to hash a lease takes longer than to write it.
_written_before: dict[int, tuple[Lease, str]] = {}
_FEW = 100

# By path; many containers in a row read and write the same record.
_read_before: dict[str, tuple[Stamp, Record]] = {}
_NETWORK_FIELDS = tuple(field.name for field in dataclasses.fields(Network))
_LEASE_FIELDS = tuple(field.name for field in dataclasses.fields(Lease))
