"""`signal` and `socket` without their Python halves, for what starts anew at each command.

Those make an enumeration of every constant there is, by modules that nothing else here needs:
together a tenth of what a `bayplan-oci` takes. Here signals and families are plain numbers, and a
socket closes by `contextlib.closing`, for it is no context manager. Else all is as documented
there, but for `accept` and what hands over descriptors, which are here.
"""

import _socket as socket
import struct
from collections.abc import Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal

__all__ = ["accept", "receive_fds", "send_fds", "signal", "socket"]


def accept(listening: socket.socket) -> socket.socket:
    """Return the next connection, which closes on exec; as ``socket.socket.accept`` does.

    Nothing is asked of the kernel but accept4(2) and getsockname(2), which may fail.
    """
    fd, _ = listening._accept()  # type: ignore[attr-defined] # not in its stub
    return socket.socket(listening.family, listening.type, listening.proto, fd)


def send_fds(channel: socket.socket, data: bytes, fds: Sequence[int]) -> None:
    """Send *data* and *fds*, as ``socket.send_fds`` does."""
    packed = struct.pack(f"{len(fds)}i", *fds)
    channel.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, packed)])


def receive_fds(channel: socket.socket, most_bytes: int, most_fds: int) -> tuple[bytes, list[int]]:
    """Receive data and descriptors, which close on exec; as ``socket.recv_fds`` does."""
    room = socket.CMSG_LEN(4 * most_fds)
    data, ancillary, _, _ = channel.recvmsg(most_bytes, room, socket.MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds += struct.unpack(f"{len(content) // 4}i", content)
    return data, fds
