"""The supervisor's side of the talk with its keeper, with a keeper that is a thread."""

import os
import socket
import threading

import pytest

from runtime.supervisor.link import Link
from runtime.supervisor.loop import Loop
from runtime.supervisor.names import Code, Home

MANY = 3000


@pytest.mark.timeout(30)
@pytest.mark.parametrize("last", ["bye", "upgrade"])
def test_both_may_have_more_to_say_than_the_other_has_heard(last: str) -> None:
    """The keeper waits for us to hear of many ends, while we wait for it to hear our last word."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    heard: list[bytes] = []

    def keep() -> None:
        theirs.send(b"ready")
        for number in range(MANY):
            theirs.send(b"ended container/%d 0 1" % number)
        while not heard or not heard[-1].startswith(last.encode()):
            heard.append(theirs.recv(4096))

    keeper = threading.Thread(target=keep, daemon=True)
    keeper.start()
    link, loop = Link(Home("state", "run", "group"), ours.detach()), Loop()
    link.watch(loop, lambda _name, _code: None)
    for number in range(MANY):
        link.gone(f"container/{number}")
    if last == "bye":
        link.bye()
    else:
        fd = os.open(os.devnull, os.O_RDONLY)
        link.hand_over(Code("/python", "/folder"), fd)
        os.close(fd)
    keeper.join()
    assert len(heard) == MANY + 1
    theirs.close()
    link._socket.close()
    loop.close()


@pytest.mark.timeout(30)
def test_ends_that_come_while_the_link_is_not_watched_yet_block_nobody() -> None:
    """As when many die while a new supervisor adopts: the keeper is heard when that is done."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    heard: list[bytes] = []

    def keep() -> None:
        for number in range(MANY):
            theirs.send(b"child container/%d %d" % (number, number + 1))
        theirs.send(b"ready")
        for number in range(MANY):
            theirs.send(b"ended container/%d 0 %d" % (number, number + 1))
        while len(heard) < MANY:
            heard.append(theirs.recv(4096))

    keeper = threading.Thread(target=keep, daemon=True)
    keeper.start()
    link, loop = Link(Home("state", "run", "group"), ours.detach()), Loop()
    for number in range(MANY):  # what an adoption says, while the keeper waits to be heard
        link.gone(f"exec/{number}")
    ended: list[str] = []
    link.watch(loop, lambda name, _code: ended.append(name))

    def look() -> None:
        if keeper.is_alive() or len(ended) < MANY:
            loop.call_later(0.01, look)
        else:
            loop.stop()

    look()
    loop.run()
    assert heard == [b"gone exec/%d" % number for number in range(MANY)]
    theirs.close()
    link._socket.close()
    loop.close()
