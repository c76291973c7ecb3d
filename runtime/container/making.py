"""What is being made is not cleared away: a lock between makers and those who clear up.

Everything of a container is found by its config, which comes first. What has to be there before,
its folder and its secrets, belongs to nobody for a moment; the same goes for a volume's folder.
So makers hold this lock, all of them together, until there is an owner, and who takes away what
nobody owns holds it alone. It is taken before the host lock, never while holding that.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from runtime.errors import ConflictError
from runtime.kernel.flock import flock_within
from runtime.root import Root

_TIMEOUT_S = 10.0


@contextmanager
def making(root: Root) -> Iterator[None]:
    """Hold the lock beside other makers; may be nested. Makes the state folder.

    Raises:
        ConflictError: somebody clears up and does not come to an end.
    """
    with _held(root, fcntl.LOCK_SH, "somebody is clearing up: `bayplan doctor --mend`"):
        yield


@contextmanager
def nobody_making(root: Root) -> Iterator[None]:
    """Hold the lock alone.

    Raises:
        ConflictError: there is always somebody who makes a container or a volume.
    """
    with _held(root, fcntl.LOCK_EX, "containers or volumes are being made"):
        yield


@contextmanager
def _held(root: Root, kind: int, obstacle: str) -> Iterator[None]:
    root.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(root.state / "making.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not flock_within(fd, kind, _TIMEOUT_S):
            raise ConflictError(f"{obstacle}, for {_TIMEOUT_S:g} s")
        yield
    finally:
        os.close(fd)
