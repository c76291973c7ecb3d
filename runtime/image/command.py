"""Runs a program whose output is a stream we read and whose messages are progress."""

import os
import selectors
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from runtime.errors import ImageError
from runtime.image.progress import Progress

_PIECE = 1 << 18
_LAST_LINES = 200
_GRACE_S = 20.0


@contextmanager
def run_streaming(
    command: Sequence[str],
    *,
    stdin: bytes,
    env: dict[str, str],
    progress: Progress,
    keep_open: int,
    timeout_s: float,
) -> Iterator[Iterator[bytes]]:
    """Run *command* and yield its standard output in pieces; its error lines go to *progress*.

    *stdin* is given whole, so it must be less than a pipe holds (64 KiB). The descriptor
    *keep_open* stays open in the program and its children: a lock on it lasts as long as they.
    Leaving the block early ends the program, softly first so that it can clean up.

    Raises:
        subprocess.CalledProcessError: from the iterator, at its end: the program failed; *stderr*
            has its last lines as text.
        ImageError: from the iterator; it took longer than *timeout_s*.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        cwd="/",
        pass_fds=(keep_open,),
        start_new_session=True,
        bufsize=0,
    )
    with process:
        try:
            # All three are pipes, as asked for above.
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdin.write(stdin)
            process.stdin.close()
            yield _pieces(process, process.stdout, process.stderr, progress, timeout_s)
        finally:
            _end(process)


def _pieces(
    process: subprocess.Popen[bytes],
    output: IO[bytes],
    errors: IO[bytes],
    progress: Progress,
    timeout_s: float,
) -> Iterator[bytes]:
    deadline = time.monotonic() + timeout_s
    last: deque[str] = deque(maxlen=_LAST_LINES)
    partial = b""
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        selector.register(errors, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                said = last[-1] if last else "nothing"
                raise ImageError(f"not done after {timeout_s:.0f} s; last said: {said}")
            for key, _ in ready:
                data = os.read(key.fd, _PIECE)
                if not data:
                    selector.unregister(key.fileobj)
                elif key.fileobj is output:
                    yield data
                else:
                    *lines, partial = (partial + data).replace(b"\r", b"\n").split(b"\n")
                    for line in filter(
                        None, (text.decode(errors="replace").strip() for text in lines)
                    ):
                        last.append(line)
                        progress(line)
    code = process.wait(max(1.0, deadline - time.monotonic()))
    if code != 0:
        raise subprocess.CalledProcessError(code, process.args, stderr="\n".join(last))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Make sure the program is gone; it reads SIGTERM as a wish to clean up and leave."""
    if process.poll() is not None:
        return
    # Nobody reads its output any more, and a full pipe must not keep it from leaving.
    drains = [
        threading.Thread(target=_drain, args=(pipe,), daemon=True)
        for pipe in (process.stdout, process.stderr)
        if pipe is not None
    ]
    for drain in drains:
        drain.start()
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for drain in drains:
        drain.join(_GRACE_S)


def _drain(pipe: IO[bytes]) -> None:
    while os.read(pipe.fileno(), _PIECE):
        pass
