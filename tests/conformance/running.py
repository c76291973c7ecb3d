"""Running a program of a suite: it may hang, and it may want a terminal."""

import os
import pty
import select
import signal
import subprocess
import time
from pathlib import Path

_BYTES = 65536


def run_bounded(words: list[str], *, cwd: Path, env: dict[str, str], seconds: float) -> str:
    """Return what a command says on a terminal; after *seconds* its process group is killed.

    Waits for no more than its own end: what it leaves behind may hold the terminal for long.
    """
    master, slave = pty.openpty()
    try:
        try:
            process = subprocess.Popen(
                words, cwd=cwd, env=env, stdin=slave, stdout=slave, stderr=slave,
                start_new_session=True,
            )  # fmt: skip
        finally:
            os.close(slave)
        return _followed(process, master, seconds)
    finally:
        os.close(master)


def _followed(process: subprocess.Popen[bytes], master: int, seconds: float) -> str:
    output = bytearray()
    deadline = time.monotonic() + seconds
    ended = os.pidfd_open(process.pid)
    watched = {master, ended}
    try:
        while True:
            ready = select.select(watched, [], [], max(0.0, deadline - time.monotonic()))[0]
            if master in ready:
                try:
                    output += os.read(master, _BYTES)
                except OSError:  # EIO: nobody has the terminal open any more
                    watched.discard(master)
            elif ended in ready:
                break
            elif not ready:
                os.killpg(process.pid, signal.SIGKILL)
                output += f"\nended after {seconds:.0f} s\n".encode()
                deadline += seconds
    finally:
        os.close(ended)
    process.wait()
    return output.decode(errors="replace").replace("\r\n", "\n")
