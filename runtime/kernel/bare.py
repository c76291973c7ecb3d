"""`signal` and `socket` without their Python halves, for what starts anew at each command.

Those make an enumeration of every constant there is, by modules that nothing else here needs:
together a tenth of what a `bayplan-oci` takes. Here signals and families are plain numbers, and a
socket closes by `contextlib.closing`, for it is no context manager. Else all is as documented
there, but for `accept`, which is here.
"""

import _socket as socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal

__all__ = ["accept", "signal", "socket"]


def accept(listening: socket.socket) -> socket.socket:
    """Return the next connection, which closes on exec; as ``socket.socket.accept`` does.

    Nothing is asked of the kernel but accept4(2) and getsockname(2), which may fail.
    """
    fd, _ = listening._accept()  # type: ignore[attr-defined] # not in its stub
    return socket.socket(listening.family, listening.type, listening.proto, fd)
