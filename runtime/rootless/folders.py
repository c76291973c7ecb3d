"""Where an ordinary user's default world lives, and the folder of the holder.

Source: XDG Base Directory Specification.
"""

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from runtime.errors import UnsupportedHostError
from runtime.root import Root
from runtime.rootless import protocol


def root_of(uid: int, environment: Mapping[str, str]) -> Root:
    """Return the default world of the user *uid* of the host, who calls; touches nothing.

    The same, before and after that user's namespaces are entered.

    Raises:
        UnsupportedHostError: there is no folder that is this user's alone.
    """
    data = environment.get("XDG_DATA_HOME", "")
    if not os.path.isabs(data):  # which the specification wants ignored
        data = os.path.join(os.path.expanduser("~"), ".local/share")
    if not os.path.isabs(data):
        raise UnsupportedHostError("there is no home folder: set HOME, or XDG_DATA_HOME")
    return Root(Path(data, "bayplan"), Path(_run_folder(uid, environment.get("XDG_RUNTIME_DIR"))))


def holder_folder(root: Root) -> str:
    """Return where the holder has its socket: beside the run folder of the default world.

    Not in it, since what another boot left there is cleared when it is first used in this one.
    """
    return f"{root.run}-holder"


def make_holder_folder(folder: str) -> None:
    """Make that folder, and the one it is in, for this user alone. Idempotent.

    Raises:
        UnsupportedHostError: somebody else has made one of them meanwhile.
    """
    for each in (os.path.dirname(folder), folder):
        with suppress(FileExistsError):
            os.mkdir(each, 0o700)
        if not _is_private(each):
            raise _not_private(each)


def leave_holder_folder(folder: str) -> None:
    """Take away what a holder that ends has there; the lock last, whose taker starts afresh."""
    names = ["slirp.log", "resolv.conf", protocol.LOCK]
    with suppress(FileNotFoundError):
        # Notes that were being written when holders were killed.
        names[:0] = [name for name in os.listdir(folder) if name.startswith(f"{protocol.NOTE}.")]
        if not os.stat(os.path.join(folder, protocol.LOG)).st_size:
            names.insert(0, protocol.LOG)
    for name in names:
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, name))
    with suppress(OSError):  # there is a log worth keeping, or somebody starts another holder
        os.rmdir(folder)


def _run_folder(uid: int, given: str | None) -> str:
    """Return the folder for what ends with the session; of no use after a reboot."""
    for parent in (given or "", f"/run/user/{uid}"):
        # After `su` it is that of the user one was.
        if os.path.isabs(parent) and _is_private(parent):
            return os.path.join(parent, "bayplan")
    fallback = f"/tmp/bayplan-{uid}"
    if os.path.lexists(fallback) and not _is_private(fallback):
        raise _not_private(fallback)
    return os.path.join(fallback, "bayplan")


def _not_private(folder: str) -> UnsupportedHostError:
    return UnsupportedHostError(
        f"{folder} is not a folder of this user alone (mode 700): take it away, or set"
        " XDG_RUNTIME_DIR to one that is"
    )


def _is_private(folder: str) -> bool:
    try:
        status = os.lstat(folder)
    except (FileNotFoundError, PermissionError):
        return False
    private = stat.S_IMODE(status.st_mode) & 0o077 == 0
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and private
