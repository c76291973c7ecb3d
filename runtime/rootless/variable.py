"""How a process of ours knows that it is in the world of an ordinary user, and who holds that.

Few imports: keeper and supervisor hand it on.
"""

import os

from runtime.kernel.procfs import is_confined

_HOLDER = "BAYPLAN_HOLDER"


def holder() -> str | None:
    """Return the socket of the holder of the namespaces we are in, None in a world of root.

    The variable is believed in a user namespace only: there all that can be done with it is the
    user's own. What root, or another user, has in the environment is nobody's word; and who asks
    the holder looks at whose process it is (`client`).
    """
    path = os.environ.get(_HOLDER)
    return path if path is not None and is_confined() else None


def set_holder(path: str | None) -> None:
    """Say so to this process, and to those that get `environment`."""
    if path is None:
        os.environ.pop(_HOLDER, None)
    else:
        os.environ[_HOLDER] = path


def environment() -> dict[str, str]:
    """Return what a process of ours needs of the environment to be in the same world."""
    path = holder()
    return {} if path is None else {_HOLDER: path}
