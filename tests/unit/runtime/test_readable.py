"""Waiting for descriptors, which have high numbers where whoever started us left many open."""

import ast
import fcntl
import os
import resource
from pathlib import Path

import pytest

import provider
import runtime
from runtime.kernel.readable import wait_ready

HIGH = 1024
"""From here on select(2) fails."""


@pytest.fixture
def pipe():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, HIGH + 8), hard))
    low = os.pipe()
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, HIGH) for end in low]
    for end in low:
        os.close(end)
    yield ends
    for end in ends:
        os.close(end)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_descriptors_of_any_number_are_waited_for(pipe):
    reader, writer = pipe
    assert wait_ready({reader}, set(), 0) == (set(), set())
    assert wait_ready({reader}, {writer}, None) == (set(), {writer})
    os.write(writer, b"x")
    assert wait_ready({reader}, {writer}, None) == ({reader}, {writer})
    with pytest.raises(OSError, match="Bad file descriptor"):
        wait_ready({HIGH + 7}, set(), None)


def test_what_is_hung_up_but_not_writable_is_not_waited_for_in_a_busy_loop(pipe):
    """As a terminal nobody has open any more, and full; here an end that is never writable."""
    reader, writer = pipe
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, writer)  # whose other end is hung up by that
    os.close(null)
    assert wait_ready(set(), {reader}, 0.05) == (set(), set())
    assert wait_ready({reader}, {reader}, None) == ({reader}, set())


def test_nothing_waits_by_select():
    calls = {
        f"{path}:{node.lineno}"
        for package in (provider, runtime)
        for path in Path(package.__path__[0]).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "select.select"
    }
    assert calls == set()
