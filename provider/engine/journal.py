"""What an apply is about to do, on disk before it does it.

``state/projects/<project>/journal``: one JSON line with the plan and the names of the objects
that will be made, fsynced before the first effect; then a short line for each action that is
started: what it builds upon, and its tree if only the apply could tell all of it. A finished
action shows in the ledger: its entry carries the stamp of the apply. The file is removed once the
ledger and the revision are on disk. If it is there when a run begins, the apply before was
interrupted, and what it had started and not finished is suspect.

Line marks are not synced: they survive the death of the process. After a power loss, told by
another boot id, every action of the journal counts as started.
"""

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from provider.engine.entry import lasting_needs
from provider.engine.ledger import Entry, decode_instance, encode_instance
from provider.engine.revision import Revision, decode_revision, encode_revision
from provider.engine.storage import FILE_MODE, make_folder, sync_file, writing
from provider.errors import UnsupportedHostError
from provider.model.ids import InstanceId
from provider.model.plan import Action, Verb
from provider.model.resource import Attempt
from provider.model.tree import Tree
from runtime.record import dataclass

JOURNAL_VERSION = 1
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id(path: Path = _BOOT_ID) -> str:
    """Return the name of this boot of the machine (random(4))."""
    return path.read_text().strip()


@dataclass(frozen=True, slots=True)
class Step:
    """One action of an interrupted apply."""

    id: InstanceId
    verb: str
    consequence: str
    object_id: str
    """The object it was to make; empty if none."""
    renamed_from: InstanceId | None
    intended: Tree | None
    needs: tuple[InstanceId, ...] = ()
    """What it is built upon; only of one that is known to have started."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """What the journal of an interrupted apply tells."""

    apply_id: str
    started: tuple[Step, ...]
    revision: Revision | None = None
    """As it is if the apply never comes to its end; None in journals of older versions."""


class Journal:
    """The journal of one project. Making a Journal touches nothing on disk."""

    def __init__(self, state: Path, project: str) -> None:
        self.path = state / "projects" / project / "journal"
        self._stream: BinaryIO | None = None
        self._planned: dict[InstanceId, Tree | None] = {}

    def begin(
        self,
        apply_id: str,
        actions: Collection[Action],
        object_ids: Mapping[InstanceId, str],
        revision: Revision,
    ) -> None:
        """Write the plan and make it durable; nothing may be changed on the host before.

        Raises:
            UnwritableError: there is no space, or the disk is broken.
        """
        self._planned = {action.id: action.after for action in actions}
        header = {
            "journalVersion": JOURNAL_VERSION,
            "applyId": apply_id,
            "bootId": boot_id(),
            "revision": encode_revision(revision),
            "steps": [_encode_step(action, object_ids.get(action.id, "")) for action in actions],
        }
        with writing(self.path):
            make_folder(self.path.parent)
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
            # Without a buffer, in which a line that did not fit on the disk would stay.
            self._stream = open(fd, "wb", buffering=0)  # noqa: SIM115 - closed by close
            self._write(header)
            os.fsync(fd)
            sync_file(self.path.parent)

    def started(self, action: Action) -> None:
        """Note that *action*, with what the apply has found out by now, is started.

        Raises:
            UnwritableError: there is no space, or the disk is broken; it must not be started.
        """
        mark: Tree = {"started": encode_instance(action.id)}
        if action.verb is not Verb.DELETE:
            needs = lasting_needs(action)
            mark["needs"] = [encode_instance(need) for need in needs]
        if action.after != self._planned[action.id]:
            mark["intended"] = action.after
        with writing(self.path):
            self._write(mark)

    def end(self) -> None:
        """Remove the journal; ledger and revision must be on disk. Idempotent."""
        self.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Stop writing; what was begun stays on disk for the next run. Idempotent."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def read(self) -> Interrupted | None:
        """Return what an interrupted apply had started; None if there is no journal.

        A header that is cut short was never followed by an effect.

        Raises:
            UnsupportedHostError: it was written by a newer version of bayplan.
        """
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return None
        if len(lines) < 2:
            return Interrupted("", ())
        header = json.loads(lines[0])
        if header["journalVersion"] != JOURNAL_VERSION:
            raise UnsupportedHostError(
                f"{self.path} has version {header['journalVersion']}, newer than this bayplan"
                f" knows ({JOURNAL_VERSION})",
                hint="use the version of bayplan that wrote it, or a newer one",
            )
        steps = tuple(_decode_step(step) for step in header["steps"])
        if header["bootId"] == boot_id():
            # The last element is empty, or a mark cut short whose action was not started.
            found = [json.loads(line) for line in lines[1:-1]]
            marks = {decode_instance(mark["started"]): mark for mark in found}
            steps = tuple(_begun(step, marks[step.id]) for step in steps if step.id in marks)
        revision = header.get("revision")
        return Interrupted(
            header["applyId"], steps, decode_revision(revision) if revision else None
        )

    def _write(self, tree: Tree) -> None:
        assert self._stream is not None
        rest = json.dumps(tree, separators=(",", ":")).encode() + b"\n"
        while rest:  # a disk that is nearly full takes a part
            rest = rest[self._stream.write(rest) :]


def fold(
    entries: Mapping[InstanceId, Entry], interrupted: Interrupted | None
) -> dict[InstanceId, Entry]:
    """Return *entries* with what was interrupted marked in them. Pure.

    An action is done if its entry carries the stamp of the apply (a delete: if there is none);
    any other that was started leaves an attempt, and its object as a leftover, built on the same.
    """
    folded = dict(entries)
    if interrupted is None:
        return folded
    for step in interrupted.started:
        entry = folded.get(step.id)
        if entry is not None and entry.stamp == interrupted.apply_id:
            if step.renamed_from is not None:
                folded.pop(step.renamed_from, None)  # its object went over to the new name
            continue
        if entry is None and step.renamed_from is not None:
            # The record is still under the former name, where the next plan looks for it.
            entry = folded.get(step.renamed_from)
        if entry is None and step.verb == Verb.DELETE:
            continue
        entry = entry or Entry(step.id)
        made = {*entry.leftovers, step.object_id} - {"", entry.object_id}
        folded[entry.id] = replace(
            entry,
            attempt=Attempt(
                step.verb, step.consequence, intended=step.intended, object_id=step.object_id
            ),
            needs=tuple(dict.fromkeys((*entry.needs, *step.needs))),
            leftovers=tuple(sorted(made)),
        )
    return folded


def _encode_step(action: Action, object_id: str) -> Tree:
    return {
        "id": encode_instance(action.id),
        "verb": str(action.verb),
        "consequence": str(action.consequence),
        "objectId": object_id,
        "renamedFrom": encode_instance(action.renamed_from) if action.renamed_from else None,
        "intended": action.after,
    }


def _decode_step(tree: Any) -> Step:
    former = tree["renamedFrom"]
    return Step(
        id=decode_instance(tree["id"]),
        verb=tree["verb"],
        consequence=tree["consequence"],
        object_id=tree["objectId"],
        renamed_from=decode_instance(former) if former else None,
        intended=tree["intended"],
    )


def _begun(step: Step, mark: Tree) -> Step:
    """Return *step* with what its *mark* tells; those of older versions tell nothing."""
    needs = tuple(decode_instance(need) for need in mark.get("needs", ()))
    return replace(step, intended=mark.get("intended", step.intended), needs=needs)
