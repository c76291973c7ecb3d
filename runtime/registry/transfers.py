"""How far a transfer is, for whoever shows it."""

from typing import Protocol


class Transfers(Protocol):
    """Is told how far a transfer is, in bytes; by several threads, and must not raise."""

    def planned(self, total: int, present: int) -> None:
        """*total* is what the image has, *present* how much of it need not move."""

    def moved(self, size: int) -> None:
        """So much more has moved; less than nothing where it has to be moved again."""

    def said(self, line: str) -> None:
        """Something worth a line has happened."""
