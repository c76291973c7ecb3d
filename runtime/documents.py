"""State files as read back: one that a power loss or a bad disk has damaged is named."""

import json
import os
from typing import Any

from runtime.errors import DamagedError


def parse_state(path: str | os.PathLike[str], data: bytes) -> Any:
    """Return the JSON in *data*, the content of *path*.

    Raises:
        DamagedError: it is empty, or no JSON.
    """
    try:
        return json.loads(data)
    except ValueError:  # of UTF-8, too
        raise DamagedError(path, "not JSON" if data.strip(b"\0 \n") else "empty") from None
