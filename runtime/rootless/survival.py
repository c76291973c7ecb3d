"""What a holder that was killed leaves to the next one: namespaces, their cgroup, open ports.

The next one may be started from anywhere. Processes it starts inside must be in that cgroup: a
cgroup namespace shows no other, and lets nobody move across its border.

Namespaces are told apart by numbers, which the kernel gives out again: that they are still those
of the note is proven only by a process that was seen inside while a holder had them, and still is.
Nobody gets from one user namespace into another that is not below it.
"""

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from runtime.documents import read_note
from runtime.kernel.procfs import boot_id, is_running
from runtime.kernel.replace import replace_file
from runtime.record import dataclass
from runtime.rootless import delegation, insiders, namespaces
from runtime.rootless.forwards import Forward
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
    forwards: Mapping[str, frozenset[Forward]]
    """Ports of the host that were handed on into them, by world."""


def find_or_make(note: str) -> Kept:
    """Return the namespaces told of in the file *note*, or new ones.

    Raises:
        UnsupportedHostError: the host lets this user make none; says what to change.
        OSError: the host has nothing left for it.
    """
    if (known := _read(note)) is not None:
        if (found := _find(known, whole=True)) is not None:
            forwards = {
                world: frozenset(Forward(*port) for port in ports)
                for world, ports in known.get("forwards", {}).items()
            }
            return Kept(found, frozenset(known["mounts"]), known.get("group"), forwards)
        _end_all(known)
    group = delegation.own_group()
    made = namespaces.make(ids_of(os.getuid(), os.getgid()), group=group)
    mounts = insiders.look(made, insiders.own_mounts)
    return Kept(made, frozenset(mounts), group, {})


def are_left(note: str) -> bool:
    """Tell whether the namespaces told of in the file *note* can be found again."""
    known = _read(note)
    found = None if known is None else _find(known, whole=True)
    if found is not None:
        found.close()
    return found is not None


def doomed(note: str) -> list[int]:
    """Return the pids of whom the next holder kills, as nobody gets back in by them.

    Of namespaces whose mounts and network ended with the last process in them. A container has
    others of its own, and must not be able to keep a way into these.
    """
    known = _read(note)
    if known is None:
        return []
    if (found := _find(known, whole=True)) is not None:
        found.close()
        return []
    if (proven := _find(known, whole=False)) is None:
        return []
    left = [stat.pid for stat in insiders.processes(known)]
    proven.close()
    return left


def remember(note: str, kept: Kept, forwards: Mapping[str, frozenset[Forward]]) -> None:
    """Tell whoever comes after this process; atomic."""
    numbers = kept.namespaces.numbers()
    inside = [
        (stat.pid, stat.start_ticks, insiders.is_in(stat.pid, numbers))
        for stat in insiders.processes(numbers)
    ]
    body = {
        "boot": boot_id(),
        **numbers,
        "mounts": sorted(kept.mounts),
        "group": kept.group,
        "insiders": inside,
        "forwards": {
            world: [[port.protocol, port.ip, port.port] for port in sorted(ports)]
            for world, ports in forwards.items()
        },
    }
    replace_file(note, json.dumps(body).encode())


def _read(note: str) -> dict[str, Any] | None:
    known: dict[str, Any] | None = read_note(note)
    return known if known is not None and known["boot"] == boot_id() else None


def _find(known: dict[str, Any], *, whole: bool) -> Namespaces | None:
    """Return the namespaces of a process that proves them; None if nobody does.

    Of one in the user namespace, or in the *whole* of them: containers without their keeper have
    others of their own, by which nobody gets back in. Nor does anybody where the group is gone:
    none could be started in it any more.
    """
    group = known.get("group")  # notes of older versions have none, nor insiders
    if whole and group is not None and not os.path.isdir(group):
        return None
    numbers = {kind: known[kind] for kind in (namespaces.KINDS if whole else ("user",))}
    for pid, start, was_whole in known.get("insiders", ()):
        if was_whole or not whole:
            with suppress(*insiders.GONE):
                found = Namespaces.of_process(pid)
                # In this order: so they are not those of a stranger who has the pid by now.
                if is_running(pid, start) and numbers.items() <= found.numbers().items():
                    return found
                found.close()
    return None


def _end_all(known: dict[str, Any]) -> None:
    """Kill who is inside, if it is proven that these are ours; else say who that may be."""
    proven = _find(known, whole=False)
    if proven is not None:
        insiders.kill_all(known)  # as long as it is held, nobody else gets the number
        proven.close()
    elif left := " ".join(str(stat.pid) for stat in insiders.processes(known)):
        print(
            f"a holder was killed, and none of those it knew inside is left; in a user namespace of"
            f" that number, which may be another one by now, are the processes {left}: to be ended"
            " by hand if they are of this user's containers",
            file=sys.stderr,
            flush=True,
        )
