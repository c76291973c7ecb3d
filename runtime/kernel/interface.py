"""Network interfaces, as far as ioctl(2) does without netlink; netdevice(7)."""

import fcntl
import struct
from collections.abc import Iterable
from contextlib import closing

from runtime.kernel.bare import socket
from runtime.kernel.libc import addressof, room

_SIOCSIFFLAGS = 0x8914
_SIOCGIFCONF = 0x8912
_SIOCSIFADDR = 0x8916
_SIOCSIFNETMASK = 0x891C
_IFF_UP_RUNNING = 0x1 | 0x40
_IFREQ_BYTES = 40


def set_loopback_up() -> None:
    """Set the loopback interface of this network namespace up."""
    with closing(_any_socket()) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP_RUNNING))


def set_extra_addresses(link: str, addresses: Iterable[str]) -> None:
    """Make *addresses* all that *link* has beside its first one; each for itself (/32).

    Each has a label of its own, by which it is known again; *link* has at most six characters.
    """
    wanted = {f"{link}:{socket.inet_aton(ip).hex()}": ip for ip in addresses}
    with closing(_any_socket()) as any_socket:
        there = [label for label in _labels(any_socket) if label.startswith(f"{link}:")]
        for label in set(there) - wanted.keys():
            fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", label.encode(), 0))
        for label in wanted.keys() - set(there):
            for request, ip in (
                (_SIOCSIFADDR, wanted[label]),
                (_SIOCSIFNETMASK, "255.255.255.255"),
            ):
                address = struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(ip))
                fcntl.ioctl(any_socket, request, struct.pack("16s16s8x", label.encode(), address))


def _any_socket() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)


def _labels(any_socket: socket.socket) -> list[str]:
    """Return the label of each address of this network namespace."""
    # The kernel fills the room there is, and does not say whether there is more: so it is asked
    # for how much first, and again if one more has come meanwhile.
    while True:
        size = _configuration(any_socket, 0, 0)
        memory = room(size + _IFREQ_BYTES)
        length = _configuration(any_socket, len(memory), addressof(memory))
        if length <= size:
            break
    content = memory.raw
    names = (content[start : start + 16] for start in range(0, length, _IFREQ_BYTES))
    return [name.split(b"\0", 1)[0].decode() for name in names]


def _configuration(any_socket: socket.socket, size: int, address: int) -> int:
    """Have the addresses written where there is room for *size* bytes; return how many bytes.

    Address 0: how many that would be.
    """
    ifconf = struct.pack("iP", size, address)
    length: int = struct.unpack("iP", fcntl.ioctl(any_socket, _SIOCGIFCONF, ifconf))[0]
    return length
