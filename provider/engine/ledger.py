"""What this project has brought into being: one file per instance, the ownership record.

``state/projects/<project>/resources/<Kind>_<name>_<host>_<index>.json``, 0600, replaced whole.
Whoever holds the project's lock writes; readers take no lock and may see a mixture of before and
after, never half a file. Reading creates nothing.

To wait for the disk at each step would cost more than many a step. So what is written stands
beside what is durable, as ``....json.new``, and counts; ``sync`` waits once and puts it in its
place. After a loss of power it may be empty: then what it was to replace counts, or nothing, and
the journal tells what is suspect.
"""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from provider.engine.storage import make_folder, read_json, sync_file, write_json, writing
from provider.errors import DamagedError, UnsupportedHostError
from provider.model.ids import InstanceId, Kind, ResourceId
from provider.model.resource import Attempt, Deviation, Observed
from provider.model.tree import Tree
from runtime.record import dataclass, field

RECORD_VERSION = 1
_NEW = ".new"


@dataclass(frozen=True, slots=True)
class Entry:
    """One recorded instance."""

    id: InstanceId
    object_id: str = ""
    """Empty while nothing was ever finished."""
    effective: Tree | None = None
    """What it was last brought to; None while nothing was ever finished."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    record: Tree = field(default_factory=dict)
    needs: tuple[InstanceId, ...] = ()
    generation: str = ""
    stamp: str = ""
    attempt: Attempt | None = None
    """Set while the last apply has not got through here."""
    leftovers: tuple[str, ...] = ()

    def observed(
        self,
        *,
        deviations: tuple[Deviation, ...] = (),
        status: Tree | None = None,
        record: Tree | None = None,
    ) -> Observed:
        """Return the entry as found: with how the kernel deviates, and facts of the moment.

        *record* takes the place of the recorded one where the kernel knows better.
        """
        return Observed(
            id=self.id,
            object_id=self.object_id,
            effective=self.effective,
            deviations=deviations,
            provenance=self.provenance,
            status=status or {},
            record=self.record if record is None else record,
            needs=self.needs,
            generation=self.generation,
            stamp=self.stamp,
            attempt=self.attempt,
            leftovers=self.leftovers,
        )


def project_names(state: Path) -> list[str]:
    """Return the projects that were ever applied in this world."""
    try:
        return sorted(os.listdir(state / "projects"))
    except FileNotFoundError:
        return []


class Ledger:
    """The entries of one project. Making a Ledger touches nothing on disk."""

    def __init__(self, state: Path, project: str) -> None:
        self.project = project
        self.folder = state / "projects" / project / "resources"

    def read(self) -> dict[InstanceId, Entry]:
        """Return all entries; empty if the project was never applied.

        Raises:
            UnsupportedHostError: an entry was written by a newer version of bayplan.
            DamagedError: an entry cannot be read back.
        """
        try:
            there = {name for name in os.listdir(self.folder) if not name.startswith(".")}
        except FileNotFoundError:
            return {}
        entries = {}
        names = {name.removesuffix(_NEW) for name in there}
        for name in sorted(name for name in names if name.endswith(".json")):
            tree = self._read(name, renewed=name + _NEW in there)
            if tree is not None:
                entry = decode_entry(tree, name)
                entries[entry.id] = entry
        return entries

    def get(self, instance: InstanceId) -> Entry | None:
        """Return the entry of *instance*, if there is one; raises as ``read``."""
        name = self._path(instance).name
        tree = self._read(name, renewed=True)
        return None if tree is None else decode_entry(tree, name)

    def _read(self, name: str, *, renewed: bool) -> Tree | None:
        """Return the newest of that name; None if an apply at work has deleted it."""
        path = self.folder / name
        if renewed:
            # Not there any more: it has just been put in its place.
            with suppress(FileNotFoundError, DamagedError):
                newest: Tree = read_json(_beside(path))
                return newest
        try:
            durable: Tree = read_json(path)
        except FileNotFoundError:
            return None
        return durable

    def write(self, entry: Entry) -> None:
        """Replace the entry of ``entry.id``; atomic, not yet durable (see ``sync``).

        Raises:
            UnwritableError: there is no space, or the disk is broken.
        """
        path = self._path(entry.id)
        with writing(path):
            make_folder(self.folder)
            write_json(_beside(path), encode_entry(entry))

    def delete(self, instance: InstanceId) -> None:
        """Forget an instance. Idempotent.

        Raises:
            UnwritableError: the disk is broken.
        """
        path = self._path(instance)
        with writing(path):
            path.unlink(missing_ok=True)
            _beside(path).unlink(missing_ok=True)

    def sync(self, instances: Iterable[InstanceId]) -> None:
        """Make the entries of *instances*, written or deleted, survive a power loss.

        Raises:
            UnwritableError: there is no space, or the disk is broken.
        """
        paths = [self._path(instance) for instance in instances]
        with writing(self.folder):
            for path in paths:
                sync_file(_beside(path))
            for path in paths:
                with suppress(FileNotFoundError):
                    os.rename(_beside(path), path)
            sync_file(self.folder)

    def _path(self, instance: InstanceId) -> Path:
        resource = instance.resource
        name = f"{resource.kind}_{resource.name}_{instance.host}_{instance.index}.json"
        return self.folder / name


def _beside(path: Path) -> Path:
    """Return where what is not durable yet stands."""
    return path.with_name(path.name + _NEW)


def encode_instance(instance: InstanceId) -> Tree:
    """Return an identity as JSON; ``project`` stands for itself so that records can be moved."""
    return {
        "project": instance.resource.project,
        "kind": str(instance.resource.kind),
        "name": instance.resource.name,
        "host": instance.host,
        "index": instance.index,
    }


def decode_instance(tree: Tree) -> InstanceId:
    """Inverse of ``encode_instance``."""
    resource = ResourceId(tree["project"], Kind(tree["kind"]), tree["name"])
    return InstanceId(resource, tree["host"], tree["index"])


def encode_entry(entry: Entry) -> Tree:
    """Return an entry as JSON."""
    return {
        "recordVersion": RECORD_VERSION,
        "id": encode_instance(entry.id),
        "objectId": entry.object_id,
        "effective": entry.effective,
        "provenance": dict(entry.provenance),
        "record": entry.record,
        "needs": [encode_instance(need) for need in entry.needs],
        "generation": entry.generation,
        "stamp": entry.stamp,
        "attempt": _encode_attempt(entry.attempt) if entry.attempt else None,
        "leftovers": list(entry.leftovers),
    }


def decode_entry(tree: Any, name: str) -> Entry:
    """Return the entry of a JSON tree; *name* is for messages.

    Raises:
        UnsupportedHostError: it was written by a newer version of bayplan.
    """
    version = tree["recordVersion"]
    if version != RECORD_VERSION:
        raise UnsupportedHostError(
            f"ledger entry {name} has record version {version}, newer than this bayplan knows"
            f" ({RECORD_VERSION})",
            hint="use the version of bayplan that wrote it, or a newer one",
        )
    attempt = tree["attempt"]
    return Entry(
        id=decode_instance(tree["id"]),
        object_id=tree["objectId"],
        effective=tree["effective"],
        provenance=tree["provenance"],
        record=tree["record"],
        needs=tuple(decode_instance(need) for need in tree["needs"]),
        generation=tree["generation"],
        stamp=tree["stamp"],
        attempt=_decode_attempt(attempt) if attempt else None,
        leftovers=tuple(tree["leftovers"]),
    )


def _encode_attempt(attempt: Attempt) -> Tree:
    return {
        "verb": attempt.verb,
        "consequence": attempt.consequence,
        "stage": attempt.stage,
        "error": attempt.error,
        "intended": attempt.intended,
        "objectId": attempt.object_id,
    }


def _decode_attempt(tree: Tree) -> Attempt:
    return Attempt(
        verb=tree["verb"],
        consequence=tree["consequence"],
        stage=tree["stage"],
        error=tree["error"],
        intended=tree["intended"],
        object_id=tree.get("objectId", ""),
    )
