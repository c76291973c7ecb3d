"""Our standard streams, connected to a program's terminal."""

import errno
import os
import select
from collections.abc import Set
from contextlib import suppress

from runtime.kernel.terminal import PTMX

_INPUT_BYTES = 65536
_OUTPUT_BYTES = select.PIPE_BUF
"""A pipe that is writable takes so many at once, pipe(7)."""


class Relay:
    """Copies our standard input to the *master* of a terminal, and its output to ours.

    Neither has to wait for the other, nor does who watches them: the program may not read, and
    whoever has our output may not either. So there is one piece under way in each direction, and
    only when that is through is the next one read.
    """

    def __init__(self, master: int) -> None:
        os.set_blocking(master, False)
        self._master = master
        self._stdout = _own_stdout()
        self._open = {0, master}
        self._input = b""
        self._output = b""

    def close(self) -> None:
        """Close what is its own; the master is not."""
        if self._stdout != 1:
            os.close(self._stdout)

    @property
    def reading(self) -> Set[int]:
        """What `advance` is to be called for when it is readable."""
        waiting = {fd for fd, data in ((0, self._input), (self._master, self._output)) if data}
        return self._open - waiting

    @property
    def writing(self) -> Set[int]:
        """What `advance` is to be called for when it is writable."""
        ways = ((self._master, self._input), (self._stdout, self._output))
        return {fd for fd, data in ways if data}

    def advance(self, readable: Set[int], writable: Set[int]) -> None:
        """Go on where that is possible, without waiting.

        Raises:
            OSError: our output cannot be written to.
        """
        if self._input and self._master in writable:
            self._give_input()
        if self._output and self._stdout in writable:
            with suppress(BlockingIOError):
                self._output = self._output[os.write(self._stdout, self._output) :]
        if 0 in readable:
            self._input = self._read(0, _INPUT_BYTES)
        if self._master in readable:
            self._output = self._read(self._master, _OUTPUT_BYTES)

    def end_input(self) -> None:
        """Read and give no more: the program has ended."""
        self._open.discard(0)
        self._input = b""

    def _give_input(self) -> None:
        try:
            self._input = self._input[os.write(self._master, self._input) :]
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            self.end_input()  # the terminal was hung up

    def _read(self, source: int, most: int) -> bytes:
        try:
            data = os.read(source, most)
        except BlockingIOError:
            return b""
        except OSError:  # EIO: nobody has the terminal open any more
            data = b""
        if not data:
            self._open.discard(source)
        return data


def _own_stdout() -> int:
    """Return our output, if that is a terminal opened anew.

    A terminal is writable when it takes one byte, and then waits to take the rest, unless it is
    told not to; as that is told all who share the opened file, ours has to be another.
    """
    if os.isatty(1) and os.fstat(1).st_rdev != PTMX:  # which, opened, is a new terminal
        with suppress(OSError):  # it was handed to us by whoever may open it
            return os.open("/proc/self/fd/1", os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
    return 1
