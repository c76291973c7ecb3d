"""What a former boot of the host has left in a run folder, where that is on a disk.

Nothing there means anything any more: processes, namespaces and mounts are gone, and a pid in it
may by now be anybody's. So whoever is the first to make something in a run folder after the host
was started clears it. The folder of the default world is on a tmpfs, and empty then.
"""

import fcntl
import os
from contextlib import suppress

from runtime.kernel.procfs import boot_id
from runtime.supervisor.names import LOCK

FILE = "boot"
"""In the run folder: the name of the boot that what is beside it belongs to."""

_entered: set[str] = set()


def enter(run: str) -> None:
    """See that all there is in the folder *run*, which is made, is of this boot. Idempotent.

    A folder that does not say of which boot it is stays as it is.
    """
    if run in _entered:
        return
    os.makedirs(run, 0o700, exist_ok=True)
    fd = os.open(os.path.join(run, FILE), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        said, now = os.pread(fd, 64, 0).decode("ascii", "replace").strip(), boot_id()
        if said != now:
            if said:
                _clear(run)
            with suppress(OSError):  # a full disk: then it is cleared once more, if need be
                os.pwrite(fd, f"{now}\n".encode(), 0)
    finally:
        os.close(fd)
    _entered.add(run)


def _clear(run: str) -> None:
    import shutil  # needed once a boot

    for entry in os.scandir(run):
        if entry.name in (FILE, LOCK):
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)
