"""A user who types at a terminal, and looks at what is said there."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.support.cli import COMMAND, Bayplan


class Terminal:
    """A user at a terminal, with one command running in it."""

    def __init__(self, environment: Mapping[str, str], *words: str) -> None:
        self.master, slave = pty.openpty()
        self.resize(31, 97)
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.said = b""
        self.process = subprocess.Popen(
            [*COMMAND, *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def expect(self, text: bytes) -> None:
        """Wait for *text*; what comes before it is dropped."""
        while text not in self.said:
            assert select.select([self.master], [], [], 20)[0], self.said
            self.said += os.read(self.master, 10_000)
        self.said = self.said.partition(text)[2]

    def ends(self) -> int:
        """Return the exit code; the terminal must be as it was before."""
        code = self.process.wait(20)
        assert termios.tcgetattr(self.slave) == self.before
        return code


@contextmanager
def terminal(bayplan: Bayplan, *words: str) -> Iterator[Terminal]:
    user = Terminal(bayplan.environment, *words)
    try:
        yield user
    finally:
        user.process.kill()
        user.process.wait()
        os.close(user.master)
        os.close(user.slave)
