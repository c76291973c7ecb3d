"""State files as read back: one that a power loss or a bad disk has damaged is named.

Those that can be done without are not: they are taken for not there.
"""

from __future__ import annotations

import os

from runtime import json_text
from runtime.errors import DamagedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def parse_state(
    path: str | os.PathLike[str], data: bytes, remedy: str = DamagedError.DOCTOR
) -> Any:
    """Return the JSON in *data*, the content of *path*; *remedy* is what helps if it is damaged.

    Raises:
        DamagedError: it is empty, or no JSON.
    """
    try:
        return json_text.loads(data)
    except ValueError:  # of UTF-8, too
        how = "not JSON" if data.strip(b"\0 \n") else "empty"
        raise DamagedError(path, how, remedy) from None


def read_note(path: str | os.PathLike[str]) -> Any:
    """Return the JSON in a file that can be lost; None where there is none that can be read.

    Such are all files of a run folder: what they were about did not survive a loss of power.
    """
    try:
        with open(path, "rb") as file:
            return json_text.loads(file.read())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
