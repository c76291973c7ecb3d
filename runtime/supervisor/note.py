"""What the supervisor has to say to nobody in particular: its log, ``run/supervisor.log``."""

import os
from contextlib import suppress


def note(text: str) -> None:
    """Write a line to our standard error; on a full disk it is lost, and nothing else."""
    with suppress(OSError):
        os.write(2, f"{text}\n".encode(errors="backslashreplace"))
