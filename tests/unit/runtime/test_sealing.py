"""Sealing a program in memory while the kernel has not let go of its pages yet."""

import errno
import fcntl
import os

import pytest

from runtime.kernel import selfexe


@pytest.mark.parametrize(("busy", "sealed"), [(0, True), (3, True), (1000, False)])
def test_pages_that_are_busy_are_waited_for(monkeypatch, busy, sealed):
    answers = iter([OSError(errno.EBUSY, "Device or resource busy")] * busy)
    real = fcntl.fcntl

    def sometimes_busy(fd, command, *value):
        if command == fcntl.F_ADD_SEALS and (error := next(answers, None)):
            raise error
        return real(fd, command, *value)

    monkeypatch.setattr(selfexe.fcntl, "fcntl", sometimes_busy)
    if not sealed:
        with pytest.raises(OSError, match="busy"):
            selfexe.sealed_program("test", b"content")
        return
    fd = selfexe.sealed_program("test", b"content")
    try:
        with pytest.raises(PermissionError):
            os.write(fd, b"other")
    finally:
        os.close(fd)
