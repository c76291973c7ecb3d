"""Named volumes on this host."""

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from provider.drivers.failing import failing
from provider.drivers.mark import instance_of, mark_of
from provider.drivers.passive import PassiveDriver, PassiveObserver
from provider.drivers.usage import in_use
from provider.engine.ledger import Entry
from provider.engine.ports import Context, Finding, Outcome
from provider.model.ids import InstanceId, Kind
from provider.model.plan import Action, Verb
from provider.model.resource import Deviation, Observed
from provider.model.tree import Tree
from runtime.container import volume
from runtime.root import Root


class VolumeObserver(PassiveObserver):
    """Finds volumes, recorded and not, and what of their folders is not as it was given."""

    kinds = frozenset({Kind.VOLUME})

    def __init__(self, root: Root) -> None:
        self._root = root

    def observe(self, project: str, entries: Mapping[InstanceId, Entry]) -> Iterable[Observed]:
        """Yield every recorded volume, then strays of the project."""
        known = set()
        for entry in entries.values():
            known |= {entry.object_id, *entry.leftovers}
            if entry.effective is None:
                yield entry.observed()
            else:
                yield entry.observed(
                    deviations=self._deviations(entry.object_id, entry.effective),
                    status=self._status(entry.object_id),
                )
        for found in volume.list_volumes(self._root):
            instance = instance_of(found.mark)
            if instance and instance.resource.project == project and found.id not in known:
                yield Observed(
                    instance,
                    found.id,
                    None,
                    deviations=self._deviations(found.id, {}),
                    status=self._status(found.id),
                )

    def preflight(self, actions: Sequence[Action]) -> Iterable[Finding]:
        """See that nobody else has what is to be deleted."""
        return in_use(self._root, actions)

    def _status(self, object_id: str) -> Tree:
        return {"path": str(volume.data_folder(self._root, object_id))}

    def _deviations(self, object_id: str, wanted: Tree) -> tuple[Deviation, ...]:
        folder = volume.data_folder(self._root, object_id)
        try:
            found = os.stat(folder)
        except (FileNotFoundError, NotADirectoryError):
            found = None
        if found is not None and stat.S_ISDIR(found.st_mode):
            return tuple(_changed(folder, found, wanted))
        lost = Deviation(
            "kernel.folder",
            recorded="present",
            actual="missing",
            cause=f"the folder {folder} is gone, and with it all data",
            consequence="dataLoss",
        )
        return (lost,)


def _changed(folder: Path, found: os.stat_result, wanted: Tree) -> Iterable[Deviation]:
    """Yield what is not as the manifest gives it; the rest is the containers' own business."""
    for member, words, actual in (
        ("uid", "owner", found.st_uid),
        ("gid", "group", found.st_gid),
        ("mode", "mode", f"{stat.S_IMODE(found.st_mode):04o}"),
    ):
        given = wanted.get(member)
        if given not in (None, actual):
            cause = f"the {words} of {folder} was changed from {given} to {actual}"
            yield Deviation(member, given, actual, cause)


class VolumeDriver(VolumeObserver, PassiveDriver):
    """Makes, adjusts and deletes volumes."""

    def perform(self, action: Action, context: Context) -> Outcome:
        """Bring one volume, recorded or not, to what is wanted; a lost one is made anew, empty."""
        with failing():
            return self._perform(action, context)

    def _perform(self, action: Action, context: Context) -> Outcome:
        if action.verb is Verb.DELETE:
            for object_id in (action.object_id, *action.leftovers):
                if object_id:
                    volume.delete_volume(self._root, object_id)
            return Outcome("", {})
        for object_id in action.leftovers:
            volume.delete_volume(self._root, object_id)
        after = action.after or {}
        # A lost volume is another one from now on: who has the old one mounted is replaced.
        object_id = context.object_id or action.object_id
        if action.object_id and action.object_id != object_id:
            volume.delete_volume(self._root, action.object_id)
        mode = after["mode"]
        volume.ensure_volume(
            self._root,
            volume.Volume(
                object_id,
                mark_of(action.id),
                uid=after["uid"],
                gid=after["gid"],
                mode=None if mode is None else int(mode, 8),
            ),
        )
        return Outcome(object_id, after, status=self._status(object_id))
