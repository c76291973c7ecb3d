"""What v2 groups can do without any controller: be delegated to, frozen, killed, waited for.

Source: Documentation/admin-guide/cgroup-v2.rst, Core Interface Files.
"""

import os
import select
from errno import EBUSY, EOPNOTSUPP

from runtime.cgroup import files
from runtime.errors import KernelError, UnsupportedHostError
from runtime.kernel import mask


def enable(folder: str, controllers: frozenset[str]) -> None:
    """Switch *controllers* on for the groups below *folder*, those *folder* itself has.

    Idempotent; switches nothing off. One write, because each costs a walk over all members.

    Raises:
        UnsupportedHostError: there are processes in *folder* itself, which v2 does not allow
            beside controllers for the groups below.
    """
    path = f"{folder}/cgroup.subtree_control"
    available = files.read(f"{folder}/cgroup.controllers").split()
    enabled = files.read(path).split()
    missing = sorted(controllers.intersection(available).difference(enabled))
    if not missing:
        return
    try:
        files.write(path, " ".join(f"+{name}" for name in missing))
    except KernelError as error:
        if error.errno not in (EBUSY, EOPNOTSUPP):
            raise
        raise UnsupportedHostError(
            f"cannot switch on {', '.join(missing)} below {folder}: there are processes in that "
            f"cgroup itself, move them to a cgroup below it ({error})"
        ) from error


def is_enabled(folder: str, controllers: frozenset[str]) -> bool:
    """Tell whether *controllers* are on for groups below *folder*, or just being switched on."""
    text = files.read_if_there(f"{folder}/cgroup.subtree_control") or ""
    return controllers.issubset(text.split())


def wait_enabled(folder: str, controllers: frozenset[str]) -> None:
    """Return when what is on for the groups below *folder* is there in each of them.

    To switch on what is on changes nothing, but waits for whoever is at it.
    """
    available = files.read(f"{folder}/cgroup.controllers").split()
    again = sorted(controllers.intersection(available))
    if again:
        files.write(f"{folder}/cgroup.subtree_control", " ".join(f"+{name}" for name in again))


def kill(folder: str) -> bool:
    """Send SIGKILL to all members at once, also while they fork; False before Linux 5.14."""
    if mask.is_masked(mask.CGROUP_KILL):
        return False
    try:
        files.write(f"{folder}/cgroup.kill", "1")
    except KernelError as error:
        if files.is_gone(error):
            return False
        raise
    return True


def freeze(folder: str) -> None:
    """Ask for the group to be frozen."""
    files.write(f"{folder}/cgroup.freeze", "1")


def thaw(folder: str) -> None:
    """Let the members go on."""
    files.write(f"{folder}/cgroup.freeze", "0")


def is_frozen(folder: str) -> bool:
    """Tell whether all members stand still, by this group or by one above it."""
    return _events(folder).get("frozen") == 1


def _events(folder: str) -> dict[str, int]:
    text = files.read_if_there(f"{folder}/cgroup.events")
    return {} if text is None else files.table(text)


class Events:
    """Waits for a group to become populated, empty, frozen or thawed; use it in a ``with``.

    Made before the state is read: a change between the reading and the wait ends the wait at
    once, because the kernel compares with what this open file has seen.
    """

    def __init__(self, folder: str) -> None:
        self._fd = os.open(f"{folder}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)

    def __enter__(self) -> "Events":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def read(self) -> dict[str, int]:
        """Return the state now: ``populated`` and ``frozen`` as 0 or 1."""
        return files.table(os.pread(self._fd, 4096, 0).decode())

    def wait(self, timeout_s: float) -> None:
        """Return when the state may have changed since ``read``, at the latest in time."""
        poll = select.poll()
        poll.register(self._fd, select.POLLPRI)
        poll.poll(max(0.0, timeout_s) * 1000)
