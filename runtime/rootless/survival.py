"""What a holder that was killed leaves to the next one: namespaces, and the cgroup they begin at.

The next one may be started from anywhere. Processes it starts inside must be in that cgroup: a
cgroup namespace shows no other, and lets nobody move across its border.
"""

import json
import os
from contextlib import suppress

from runtime.documents import read_note
from runtime.kernel.procfs import boot_id
from runtime.record import dataclass
from runtime.rootless import delegation, insiders, namespaces
from runtime.rootless.ids import ids_of
from runtime.rootless.namespaces import Namespaces


@dataclass(frozen=True, slots=True)
class Kept:
    """Namespaces, and what is known of them."""

    namespaces: Namespaces
    mounts: frozenset[int]
    """Ids of those that were there from the beginning."""
    group: str | None
    """Folder of the delegated cgroup they begin at; None if there was none."""


def find_or_make(note: str) -> Kept:
    """Return the namespaces told of in the file *note*, or new ones.

    Raises:
        UnsupportedHostError: the host lets this user make none; says what to change.
        OSError: the host has nothing left for it.
    """
    known = read_note(note)
    if known is not None and known["boot"] == boot_id():
        numbers = {kind: known[kind] for kind in namespaces.KINDS}
        group = known.get("group")  # notes of older versions have none
        if (found := _find(numbers, group)) is not None:
            return Kept(found, frozenset(known["mounts"]), group)
        insiders.kill_all(numbers)
    group = delegation.own_group()
    made = namespaces.make(ids_of(os.getuid(), os.getgid()), group=group)
    mounts = insiders.look(made, insiders.own_mounts)
    return Kept(made, frozenset(mounts), group)


def remember(note: str, kept: Kept) -> None:
    """Tell whoever comes after this process; atomic."""
    numbers, mounts = kept.namespaces.numbers(), sorted(kept.mounts)
    body = {"boot": boot_id(), **numbers, "mounts": mounts, "group": kept.group}
    temporary = f"{note}.new"
    with open(temporary, "w", encoding="ascii") as file:
        json.dump(body, file)
    os.replace(temporary, note)


def _find(numbers: dict[str, int], group: str | None) -> Namespaces | None:
    """Return namespaces by a process in all of them; None if nobody gets back in.

    Containers without their keeper have namespaces of their own; and where the *group* is gone,
    none can be started any more.
    """
    if group is not None and not os.path.isdir(group):
        return None
    for pid in insiders.processes(numbers, all_kinds=True):
        with suppress(FileNotFoundError, ProcessLookupError):
            found = Namespaces.of_process(pid)
            if found.numbers() == numbers:
                return found
            found.close()
    return None
