"""How far blobs have come: one line for all of them, on standard error."""

import sys
import threading
import time
from contextlib import suppress
from typing import IO

from provider.cli.output import plain, readable_size
from provider.cli.session import is_terminal

_EVERY_S = 0.1


class Transfers:
    """Shows bytes as they move; on a terminal in a line that lives, elsewhere only what is said.

    See `runtime.registry.transfers.Transfers`: several threads tell it.
    """

    def __init__(self, what: str, *, quiet: bool = False, stream: IO[str] | None = None) -> None:
        self._what = what
        self._quiet = quiet
        self._stream = stream or sys.stderr
        self._lives = not quiet and is_terminal()
        self._lock = threading.Lock()
        self._total = 0
        self._present = 0
        self._moved = 0
        self._drawn_at = 0.0

    def __enter__(self) -> "Transfers":
        return self

    def __exit__(self, *_error: object) -> None:
        with self._lock:
            self._clear()

    def planned(self, total: int, present: int) -> None:
        """Take how much there is, and how much of it is where it shall be."""
        with self._lock:
            self._total, self._present = total, present
            self._draw()

    def moved(self, size: int) -> None:
        """Take that so much more is there."""
        with self._lock:
            self._moved += size
            if time.monotonic() - self._drawn_at >= _EVERY_S:
                self._draw()

    def said(self, line: str) -> None:
        """Show a line."""
        if self._quiet:
            return
        with self._lock:
            self._clear()
            self._write(f"{plain(line)}\n")
            self._draw()

    def _draw(self) -> None:
        if not self._lives or not self._total:
            return
        self._drawn_at = time.monotonic()
        done = self._present + self._moved
        line = f"{self._what}: {readable_size(done)} of {readable_size(self._total)}"
        line += f" ({100 * done // self._total} %)"
        if self._present:
            line += f", {readable_size(self._present)} were here"
        self._write(f"\r\033[K{plain(line)}")

    def _clear(self) -> None:
        if self._lives:
            self._write("\r\033[K")

    def _write(self, text: str) -> None:
        # Nobody may be there to read; the transfer goes on.
        with suppress(OSError):
            self._stream.write(text)
            self._stream.flush()
