"""Which users and groups of the host are those of a user's world.

Root inside is the user; what /etc/subuid and /etc/subgid grant follows from 1 on.

Source: subuid(5), subgid(5), newuidmap(1), newgidmap(1).
"""

import subprocess
from collections.abc import Iterable

from runtime.errors import UnsupportedHostError
from runtime.kernel.namespaces import Mapping
from runtime.record import dataclass
from runtime.rootless.programs import find

ETC = "/etc"
_FIRST_FREE, _USUAL_COUNT = 100_000, 65_536
"""As login.defs(5) has them: SUB_UID_MIN, SUB_UID_COUNT."""


@dataclass(frozen=True, slots=True)
class Ids:
    """The mappings of a user namespace."""

    uids: tuple[Mapping, ...]
    gids: tuple[Mapping, ...]

    def write(self, pid: int) -> None:
        """Map the ids of the user namespace that *pid*, a child of ours, has just made.

        Raises:
            UnsupportedHostError: the set-user-id programs that may do so are missing, or refuse.
        """
        for name, mappings in (("newuidmap", self.uids), ("newgidmap", self.gids)):
            program = find(name, package="uidmap")
            numbers = [str(number) for mapping in mappings for number in mapping]
            words = (program, str(pid), *numbers)
            try:
                done = subprocess.run(words, capture_output=True, text=True, check=False)
            except OSError as error:
                raise UnsupportedHostError(f"{program} cannot be started: {error}") from error
            if done.returncode:
                said = done.stderr.strip() or f"it ended with {done.returncode}"
                raise UnsupportedHostError(
                    f"{program} does not map the ids of this user: {said} (is it set-user-id root,"
                    " on a file system without nosuid?)"
                )


def ids_of(uid: int, gid: int, *, etc: str = ETC) -> Ids:
    """Return the mappings granted to the user.

    Raises:
        UnsupportedHostError: none are; says how to grant some.
    """
    name = _name_of(uid)
    uids = tuple(_ranges(f"{etc}/subuid", name, uid))
    gids = tuple(_ranges(f"{etc}/subgid", name, uid))
    missing = [kind for kind, ranges in (("uid", uids), ("gid", gids)) if not ranges]
    if missing:
        files = " and ".join(f"{etc}/sub{kind}" for kind in missing)
        options = (f"--add-sub{kind}s {_free_range(f'{etc}/sub{kind}')}" for kind in missing)
        who = name or str(uid)
        raise UnsupportedHostError(
            f"no ids for containers are granted to {who} by {files}; as root:"
            f" usermod {' '.join(options)} {who}"
        )
    return Ids(_mappings(uid, uids), _mappings(gid, gids))


def _free_range(path: str) -> str:
    """Return one that follows all that are granted."""
    ends = [int(first) + int(count) for _, first, count in _lines(path) if _is_range(first, count)]
    first = max([_FIRST_FREE, *ends])
    return f"{first}-{first + _USUAL_COUNT - 1}"


def _is_range(first: str, count: str) -> bool:
    return first.isdecimal() and count.isdecimal() and int(count) > 0


def _mappings(own: int, ranges: Iterable[tuple[int, int]]) -> tuple[Mapping, ...]:
    mappings = [(0, own, 1)]
    inside = 1
    for first, count in ranges:
        mappings.append((inside, first, count))
        inside += count
    return tuple(mappings)


def _ranges(path: str, name: str, uid: int) -> Iterable[tuple[int, int]]:
    for who, first, count in _lines(path):
        if who in (name, str(uid)) and _is_range(first, count):
            yield int(first), int(count)


def _name_of(uid: int) -> str:
    """Return the user's name, empty where there is none: ids may be granted to a number."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def _lines(path: str) -> Iterable[tuple[str, str, str]]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        words = line.strip().split(":")
        if len(words) == 3 and not line.startswith("#"):
            yield words[0], words[1], words[2]
