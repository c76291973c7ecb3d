"""A process of ours that does one thing for all containers, unprivileged, by orders in packets.

It finds their socket on descriptor 0 and ends with it, so also when the supervisor is killed.
"""

import signal
import socket
from collections.abc import Callable

from runtime.supervisor.loop import Loop
from runtime.supervisor.packets import PacketChannel
from runtime.supervisor.spawn import collect, spawn

CHANNEL_FD = 0
_MAX_PACKET = 65536


class Helper:
    """One process of *module* at a time, started and ended as its owner likes."""

    def __init__(
        self,
        loop: Loop,
        module: str,
        *,
        heard: Callable[[bytes], None] = lambda _packet: None,
        died: Callable[[], None],
    ) -> None:
        """Start nothing yet.

        ``heard(packet)`` is called with what the process says, ``died()`` when it has ended by
        itself; then there is none.
        """
        self._loop = loop
        self._module = module
        self._heard = heard
        self._died = died
        self._channel: PacketChannel | None = None
        self._pid = 0
        self._pidfd = -1

    @property
    def pid(self) -> int:
        """Of the process; 0 while there is none."""
        return self._pid

    def start(self, *arguments: str, fds: dict[int, int] | None = None) -> None:
        """Start the process, while there is none, with *fds* by their numbers there.

        Raises:
            OSError: the host has nothing left for it.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            channel = PacketChannel(self._loop, ours, self._on_channel)
            fds = {CHANNEL_FD: theirs.fileno(), **(fds or {})}
            try:
                self._pid, self._pidfd = spawn(self._loop, self._module, arguments, fds)
            except OSError:
                channel.close()
                raise
        self._channel = channel

    def send(self, packet: bytes, fds: tuple[int, ...] = ()) -> None:
        """Have the process get a packet, with duplicates of *fds*; does nothing without one.

        If it is dead or dies before it reads that, ``died()`` is still to come.
        """
        if self._channel is not None:
            self._channel.send(packet, fds)

    def end(self) -> None:
        """Kill it, whatever it is stuck in; idempotent."""
        if self._channel is None:
            return
        self._channel.close()
        self._channel = None
        signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        collect(self._loop, self._pidfd)
        self._pid, self._pidfd = 0, -1

    def _on_channel(self) -> None:
        assert self._channel is not None
        try:
            packet = self._channel.socket.recv(_MAX_PACKET)
        except BlockingIOError:
            return
        except ConnectionError:
            packet = b""
        if packet:
            self._heard(packet)
        else:
            self.end()
            self._died()
