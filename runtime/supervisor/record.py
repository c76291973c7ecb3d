"""The files of a container's run folder, but for the status: see status.

launch.json is the request, as it was last configured. 0600: values given to ``run`` may be secret.
Those of Secrets are not in it, but in a file it names, on a tmpfs (runtime.container.secretfs).
"""

import json
import os
from contextlib import suppress

from runtime.documents import read_note
from runtime.kernel.replace import replace_file
from runtime.supervisor import request, status
from runtime.supervisor.pump import FIFOS
from runtime.supervisor.request import LaunchRequest

LAUNCH_FILE = "launch.json"


def write_request(folder: str, wanted: LaunchRequest) -> None:
    """Keep *wanted*, atomically."""
    data = json.dumps(request.encode(wanted)).encode()
    replace_file(os.path.join(folder, LAUNCH_FILE), data)


def read_request(folder: str) -> LaunchRequest | None:
    """Return the request kept in *folder*, None if there is none, or none that can be read.

    Raises:
        TypeError, AttributeError: it is JSON, but no request.
    """
    data = read_note(os.path.join(folder, LAUNCH_FILE))
    return None if data is None else request.decode(LaunchRequest, data)


def remove(folder: str) -> None:
    """Remove request, status and FIFOs, and the folder if nobody else has files in it.

    The status goes first: without it there is no container.
    """
    for name in (status.FILE, LAUNCH_FILE, *FIFOS.values()):
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, name))
    with suppress(OSError):
        os.rmdir(folder)
