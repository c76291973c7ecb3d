"""Descriptors that come, or do not, where there is no room for them."""

import errno
import os
import resource
import socket

import pytest

from runtime.kernel import pidfd
from runtime.kernel.passing import receive_fds, send_fds


def test_a_descriptor_without_room_is_said_to_be_lost():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        send_fds(ours, b"here", [0])
        send_fds(ours, b"again", [0])
        spare = os.dup(0)
        os.close(spare)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (spare, hard))
        with pytest.raises(OSError, match="Too many") as caught:
            receive_fds(theirs, 100, 1)
        assert caught.value.errno == errno.EMFILE
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        data, (fd,) = receive_fds(theirs, 100, 1)
        assert data == b"again"
        os.close(fd)


def test_a_look_that_fails_leaves_no_descriptor(monkeypatch):
    def fails(_pid, _start):
        raise OSError(errno.EMFILE, "no")

    monkeypatch.setattr(pidfd, "is_running", fails)
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="no"):
        pidfd.open_running(os.getpid(), 1)
    assert set(os.listdir("/proc/self/fd")) == before
