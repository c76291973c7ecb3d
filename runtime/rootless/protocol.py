"""What the holder can be asked, one JSON document a packet; it answers each with one.

* ``enter``: the namespaces, as descriptors in the order of ``KINDS``. The connection then says,
  for as long as it is open, that somebody is inside;
* ``forward``, with a ``world`` and ``ports`` (lists of protocol, address, port): these are all the
  ports of the host that are to be handed on for that world. All or none;
* ``forwards``: those of a world that are open;
* ``spawn``, with ``words``, ``environment`` and the ``numbers`` that the descriptors beside it get:
  a process inside, in the delegated cgroup, of the program that is the last of them.

An answer is ``{"ok": {...}}`` or ``{"error": text}``.
"""

import json
import os
import socket
from collections.abc import Sequence
from typing import Any

from runtime.errors import NetworkError, SupervisorError
from runtime.kernel.passing import receive_fds

SOCKET = "holder.sock"
LOCK = "holder.lock"
LOG = "holder.log"
NOTE = "namespaces.json"
"""By which a holder finds the namespaces of one that was killed."""
LISTEN_FD, LOCK_FD, REPORT_FD = 3, 4, 5
"""What the holder finds open; to the last it writes what keeps it from starting, if anything."""
MAX_BYTES = 1 << 16
MOST_FDS = 16
ANSWER_S = 60.0
NO_PROCESS = "this user may start no more processes (`ulimit -u`, or pids.max of a cgroup above)"

Message = dict[str, Any]


class EndedError(SupervisorError):
    """The holder ended before it answered; the next one can be asked."""


def ask(
    line: socket.socket, op: str, members: Message, *, given: Sequence[int] = ()
) -> tuple[Message, list[int]]:
    """Return the answer to one request that *given* descriptors go with, and those that come back.

    Raises:
        NetworkError: as the holder says.
        EndedError: it has ended, and what was asked may not have been done.
        SupervisorError: it does not answer.
    """
    try:
        line.settimeout(ANSWER_S)
        socket.send_fds(line, [json.dumps({"op": op, **members}).encode()], given)
        data, received = receive_fds(line, MAX_BYTES, MOST_FDS)
    except ConnectionError as error:
        raise EndedError("the holder of this user's namespaces has ended") from error
    except OSError as error:
        raise SupervisorError(
            f"the holder of this user's namespaces does not answer: {error}"
        ) from error
    if not data:
        for fd in received:
            os.close(fd)
        raise EndedError("the holder of this user's namespaces has ended")
    answer: Message = json.loads(data)
    if "error" in answer:
        raise NetworkError(answer["error"])
    return answer["ok"], received
