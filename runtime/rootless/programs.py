"""Programs of the host that an ordinary user needs."""

import os

from runtime.errors import UnsupportedHostError

_ALWAYS = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin")


def find(name: str, *, package: str) -> str:
    """Return the path of a program.

    Raises:
        UnsupportedHostError: it is not installed; says which package of Debian has it.
    """
    for folder in (*os.environ.get("PATH", "").split(":"), *_ALWAYS):
        path = os.path.join(folder, name)
        if folder and os.access(path, os.X_OK):
            return path
    raise UnsupportedHostError(f"{name} is not installed: apt install {package}")
