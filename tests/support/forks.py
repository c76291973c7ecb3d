"""A command in a fork of the test's process, which has imported already all that commands import.

That saves the quarter of a second and more that a command needs to start, which is most of what
one costs. The child has what a process of its own has: a pipe each for its standard streams, its
own signals and working folder, one thread.
"""

from __future__ import annotations

import fcntl
import functools
import gc
import importlib
import io
import os
import pkgutil
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import NoReturn

PIPE_MAX = 1 << 20
"""Bytes of standard input that fit into a pipe, pipe(7); what is longer is given as a file."""


def in_fork(
    body: Callable[[], int],
    *,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 120,
) -> tuple[int, str, str]:
    """Return exit code (negative: the signal), stdout and stderr of *body* run in a fork.

    Like subprocess.run it waits until nobody holds an output any more, and raises TimeoutError
    after *timeout* seconds, when it has killed the child.
    """
    import_product()
    inputs, outputs, errors = _stdin(stdin), os.pipe(), os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _be_command(body, (inputs, outputs[1], errors[1]), env or {})
    for fd in (inputs, outputs[1], errors[1]):
        os.close(fd)
    try:
        out, err = _read((outputs[0], errors[0]), time.monotonic() + timeout)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    finally:
        os.close(outputs[0])
        os.close(errors[0])
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), out, err


@functools.cache
def import_product() -> None:
    """Import every module of the product, once and here, instead of some in each fork."""
    for name in ("provider", "runtime"):
        _import_below(importlib.import_module(name))


def _import_below(package: ModuleType) -> None:
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def _stdin(text: str | None) -> int:
    if text is None:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    data = text.encode()
    if len(data) > PIPE_MAX:
        return _file(data)
    reads, writes = os.pipe()
    fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, PIPE_MAX)
    os.set_blocking(writes, False)  # rather an error than a wait for a child that is not there yet
    written = os.write(writes, data)
    assert written == len(data), "a pipe holds less than it has room for"
    os.close(writes)
    return reads


def _file(data: bytes) -> int:
    fd = os.memfd_create("stdin")
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _be_command(
    body: Callable[[], int], streams: tuple[int, int, int], env: Mapping[str, str]
) -> NoReturn:
    code = 70
    try:
        gc.freeze()  # what the test's process holds is not for this one to look through
        for fd, name in enumerate(("stdin", "stdout", "stderr")):
            os.dup2(streams[fd], fd)
            os.close(streams[fd])
            was = getattr(sys, f"__{name}__")  # of Python's own making
            mode = "w" if fd else "r"
            same = {"encoding": was.encoding, "errors": was.errors}
            stream = open(fd, mode, closefd=False, **same)  # noqa: SIM115 - for all its life
            setattr(sys, name, stream)
        os.environ.update(env)
        code = body()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _read(fds: tuple[int, int], deadline: float) -> tuple[str, str]:
    texts: dict[int, list[bytes]] = {fd: [] for fd in fds}
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    open_fds = set(fds)
    while open_fds:
        ready = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        if not ready:
            raise TimeoutError(b"".join(texts[fds[1]]).decode(errors="replace"))
        for fd, _ in ready:
            if data := os.read(fd, 1 << 16):
                texts[fd].append(data)
            else:
                poll.unregister(fd)
                open_fds.remove(fd)
    out, errors = (_text(b"".join(texts[fd])) for fd in fds)
    return out, errors


def _text(data: bytes) -> str:
    """Decode as subprocess does: any end of a line is one newline."""
    return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8").read()
