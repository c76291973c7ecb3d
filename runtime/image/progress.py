"""How long-running work on images tells what it is doing."""

from collections.abc import Callable

Progress = Callable[[str], None]
"""Gets one line at a time, in the thread that called; must not raise."""


def ignore_progress(_line: str) -> None:
    """Show nothing."""
