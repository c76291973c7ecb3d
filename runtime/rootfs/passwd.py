"""User names to numbers, by the files of an image.

Source: passwd(5), group(5).
"""

from collections.abc import Iterable, Iterator, Sequence

from runtime.errors import ContainerError, NotFoundError
from runtime.kernel.procfs import last_id
from runtime.record import dataclass
from runtime.rootfs.merged import read_merged
from runtime.spec import User

_MOST_ID = 2**32 - 2  # the last one means "unchanged", setreuid(2)
_MOST_DIGITS = len(str(_MOST_ID))


@dataclass(frozen=True, slots=True)
class Account:
    """Who a process runs as."""

    user: User
    home: str = "/"
    name: str | None = None
    """None for a number the image has no name for."""


def resolve_user(layers: Sequence[str] | str, user: str, groups: Iterable[str] = ()) -> Account:
    """Return the account *user* means in the image of *layers* (lowest first, or one folder).

    *user* is ``NAME``, ``UID``, ``NAME:GROUP`` or ``UID:GID`` in any mix; empty is 0. A number
    need not be in the files. Supplementary groups are those /etc/group lists the user in, unless
    a group is given; *groups*, each by name or number, come on top.

    Raises:
        NotFoundError: the image has no such user or group.
        ContainerError: the image's files are not fit to be read, or an ordinary user, whose world
            this is, has not as many ids.
    """
    folders = [layers] if isinstance(layers, str) else layers
    wanted, _, wanted_group = user.partition(":")
    wanted = wanted or "0"
    entry = next(
        (e for e in _entries(folders, "/etc/passwd", 7) if wanted in (e[0], e[2])),
        None,
    )
    if entry is None:
        if not _is_digits(wanted):
            raise NotFoundError(f"no user {wanted} in the image's /etc/passwd")
        uid, gid, home, name = _number(wanted), 0, "/", None
    else:
        uid, gid, home, name = _number(entry[2]), _number(entry[3]), entry[5] or "/", entry[0]
    more = [_group(folders, group) for group in groups]
    if wanted_group:
        gid = _group(folders, wanted_group)
    else:
        more[:0] = (
            _number(e[2])
            for e in _entries(folders, "/etc/group", 4)
            if name is not None and name in e[3].split(",")
        )
    _must_exist("user", uid, last_id("uid"))
    for group in (gid, *more):
        _must_exist("group", group, last_id("gid"))
    return Account(User(uid, gid, additional_gids=tuple(dict.fromkeys(more))), home, name)


def _must_exist(kind: str, number: int, last: int) -> None:
    if number > last:
        raise ContainerError(
            f"there is no {kind} {number} in the user namespace this is in, which ends at {last};"
            f" more can be granted in /etc/sub{kind[0]}id"
        )


def _group(folders: Sequence[str], wanted: str) -> int:
    for entry in _entries(folders, "/etc/group", 4):
        if wanted in (entry[0], entry[2]):
            return _number(entry[2])
    if not _is_digits(wanted):
        raise NotFoundError(f"no group {wanted} in the image's /etc/group")
    return _number(wanted)


def _number(text: str) -> int:
    number = _parse_id(text)
    if number is None:
        raise NotFoundError(f"{text[:40]} is no user or group number")
    return number


def _parse_id(text: str) -> int | None:
    digits = text.lstrip("0") or "0"
    if not _is_digits(text) or len(digits) > _MOST_DIGITS or int(digits) > _MOST_ID:
        return None
    return int(digits)


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _entries(folders: Sequence[str], path: str, members: int) -> Iterator[list[str]]:
    """Yield the lines of *path* that are well formed: *members* fields, numbers where due.

    The others count for nothing, as for getpwnam(3). What is no text in a line is replaced.
    """
    content = read_merged(folders, path) or b""
    for line in content.decode(errors="replace").splitlines():
        fields = line.split(":")
        numbers = fields[2:4] if members == 7 else fields[2:3]
        if len(fields) == members and None not in map(_parse_id, numbers):
            yield fields
