"""More packets than a socket takes wait, in order, and with their descriptors."""

import os
import socket

from runtime.kernel.passing import receive_fds
from runtime.supervisor.loop import Loop
from runtime.supervisor.packets import PacketChannel

MANY = 2000


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def test_all_arrive_in_order_with_their_descriptors():
    before = descriptors()
    loop = Loop()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.setblocking(False)
    channel = PacketChannel(loop, ours, lambda: None)
    for number in range(MANY):
        channel.send(b"%d" % number, (0,) if number % 7 == 0 else ())
    read = []

    def on_theirs(_events):
        data, fds = receive_fds(theirs, 4096, 1)
        assert len(fds) == (1 if int(data) % 7 == 0 else 0)
        for fd in fds:
            os.close(fd)
        read.append(int(data))
        if len(read) == MANY:
            loop.stop()

    loop.watch(theirs.fileno(), 1, on_theirs)
    loop.run()
    assert read == list(range(MANY))
    channel.close()
    theirs.close()
    loop.close()
    assert descriptors() == before


def test_a_peer_that_dies_is_an_end_to_read_and_nothing_is_left_open():
    before = descriptors()
    loop = Loop()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel = PacketChannel(loop, ours, loop.stop)
    for _ in range(MANY):
        channel.send(b"x", (0,))
    theirs.close()
    channel.send(b"y")
    loop.run()
    channel.close()
    loop.close()
    assert descriptors() == before
