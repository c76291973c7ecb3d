"""How a process of ours knows that it is in the world of an ordinary user, and who holds that.

Few imports: keeper and supervisor hand it on.
"""

import os

_HOLDER = "BAYPLAN_HOLDER"


def holder() -> str | None:
    """Return the socket of the holder of the namespaces we are in, None in a world of root."""
    return os.environ.get(_HOLDER)


def set_holder(path: str) -> None:
    """Say so to this process, and to those that get `environment`."""
    os.environ[_HOLDER] = path


def environment() -> dict[str, str]:
    """Return what a process of ours needs of the environment to be in the same world."""
    path = holder()
    return {} if path is None else {_HOLDER: path}
