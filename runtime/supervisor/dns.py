"""The DNS process: its sockets, its start, and its start over when it dies.

The sockets are made here, by a process that may bind port 53, and handed over; they are kept
here too, so that queries wait in them while the DNS process is replaced. The addresses are kept
in a file for the next supervisor. The process gets the folder of zone files as a descriptor; an
order is a packet of JSON, ``{"op": "listen", "address": A}`` with the UDP and the TCP socket, or
``{"op": "close", "address": A}``.
"""

import json
import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from functools import partial

from runtime.documents import read_note
from runtime.errors import NetworkError
from runtime.kernel.replace import replace_file
from runtime.supervisor.context import Context
from runtime.supervisor.helper import CHANNEL_FD, Helper
from runtime.supervisor.loop import Timer
from runtime.supervisor.note import note

PORT = 53
ADDRESSES_FILE = "dns.json"
ZONES = "dns"
ZONES_FD = 3
_IP_FREEBIND = 15  # linux/in.h
_BACKLOG = 128
_AGAIN_S = 0.5
_AGAIN_LATER_S = 5.0

Sockets = tuple[socket.socket, socket.socket]


class DnsServer:
    """Keeps one DNS process that listens on all addresses asked for."""

    def __init__(self, context: Context) -> None:
        self._loop = context.loop
        self._path = os.path.join(context.home.run, ADDRESSES_FILE)
        self._zones = os.path.join(context.home.run, ZONES)
        self._sockets: dict[str, Sockets] = {}
        self._missing: set[str] = set()
        """Where the last supervisor listened, and we cannot yet."""
        self._timer: Timer | None = None
        self._helper = Helper(
            context.loop,
            "runtime.network.dnsserver",
            # Not at once: it may be dying of something that lasts.
            died=partial(self._start_later, _AGAIN_S),
        )

    @property
    def pid(self) -> int:
        """Of the process; 0 while there is none."""
        return self._helper.pid

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where it listens."""
        return tuple(self._sockets)

    def listen(self, addresses: tuple[str, ...]) -> None:
        """Listen on *addresses* too; idempotent.

        Raises:
            NetworkError: somebody else has port 53 there, and none of the new ones is kept; or
                the host has nothing left for the process, which is tried again by itself.
        """
        opened: dict[str, Sockets] = {}
        try:
            for address in addresses:
                socket.inet_pton(socket.AF_INET, address)  # a name would be looked up
                if address not in self._sockets and address not in opened:
                    opened[address] = _open(address)
            if opened:
                self._remember(opened)
        except OSError as error:
            for sockets in opened.values():
                _close(sockets)
            raise NetworkError(f"cannot serve names: {error.strerror}") from error
        self._sockets |= opened
        self._missing -= opened.keys()
        try:
            if self._helper.pid:
                for address in opened:
                    self._hand_over(address)
            elif self._sockets:
                self._start()
        except OSError as error:
            self._start_later(_AGAIN_S)
            raise NetworkError(f"cannot serve names yet: {error.strerror}") from error

    def close(self, addresses: tuple[str, ...]) -> None:
        """Listen no more on *addresses*; idempotent."""
        for address in addresses:
            self._missing.discard(address)
            sockets = self._sockets.pop(address, None)
            if sockets is not None:
                self._order({"op": "close", "address": address})
                _close(sockets)
        if addresses:
            self._remember()
        if not self._sockets:
            self.end()

    def adopt(self) -> None:
        """Listen where the last supervisor did; where that cannot be yet, as soon as it can."""
        self._missing.update(read_note(self._path) or ())
        self._listen_late()

    def _listen_late(self) -> None:
        for address in sorted(self._missing):
            try:
                self.listen((address,))
            except NetworkError as error:
                note(f"{error}; trying again")
        if self._missing:
            self._loop.call_later(_AGAIN_LATER_S, self._listen_late)

    def end(self) -> None:
        """End the process."""
        if self._timer is not None:
            self._timer.cancel()
        self._helper.end()

    def forget(self) -> None:
        """End it and leave no file."""
        self.end()
        for sockets in self._sockets.values():
            _close(sockets)
        self._sockets.clear()
        self._missing.clear()
        with suppress(FileNotFoundError):
            os.unlink(self._path)

    def _remember(self, more: Iterable[str] = ()) -> None:
        every = sorted({*self._missing, *self._sockets, *more})
        if every != read_note(self._path):  # what is adopted needs no room on the disk
            replace_file(self._path, json.dumps(every).encode())

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        os.makedirs(self._zones, 0o700, exist_ok=True)
        zones = os.open(self._zones, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._helper.start(str(CHANNEL_FD), str(ZONES_FD), fds={ZONES_FD: zones})
        finally:
            os.close(zones)
        for address in self._sockets:
            self._hand_over(address)

    def _start_later(self, delay_s: float) -> None:
        self.end()  # or what is there may lack some of the sockets
        self._timer = self._loop.call_later(delay_s, self._try_to_start)

    def _try_to_start(self) -> None:
        try:
            self._start()
        except OSError as error:
            note(f"cannot serve names yet: {error}; trying again")
            self._start_later(_AGAIN_LATER_S)

    def _hand_over(self, address: str) -> None:
        udp, tcp = self._sockets[address]
        self._order({"op": "listen", "address": address}, (udp.fileno(), tcp.fileno()))

    def _order(self, order: dict[str, str], fds: tuple[int, ...] = ()) -> None:
        # If it dies before it reads them, its successor gets them all.
        self._helper.send(json.dumps(order).encode(), fds)


def _open(address: str) -> Sockets:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        for made in (udp, tcp):
            # The process of a supervisor that was killed may still be there for a moment.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            # The bridge may come later, or come again.
            made.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
            made.setblocking(False)
            made.bind((address, PORT))
        tcp.listen(_BACKLOG)
    except OSError as error:
        _close((udp, tcp))
        raise OSError(error.errno, f"{address} port {PORT}: {error.strerror}") from error
    return udp, tcp


def _close(sockets: Sockets) -> None:
    for made in sockets:
        made.close()
