"""What one cgroup file should hold, and how to tell whether it does.

The kernel does not give back what was written: sizes are rounded down to pages, lists come back
sorted and merged, "unlimited" has several spellings. Each setting therefore carries its own
comparison.
"""

import os
from collections.abc import Callable

from runtime import record
from runtime.errors import ContainerError

PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")

_SUFFIXES = {"K": 10, "M": 20, "G": 30, "T": 40}

# v1 spells "no limit" as the largest number of whole pages (PAGE_COUNTER_MAX).
_UNLIMITED_FROM = (2**63 - 1) // PAGE_SIZE * PAGE_SIZE


@record.dataclass(frozen=True, slots=True)
class Deviation:
    """One file that does not hold what the resources imply."""

    field: str
    """In the words of the OCI runtime-spec: ``memory.limit``, ``cpu.quota``, ``unified.x``."""
    file: str
    """Full path."""
    expected: str
    """In the file's own words."""
    actual: str | None
    """None: the file, or the whole group, is not there."""

    def __str__(self) -> str:
        found = "is missing" if self.actual is None else f"is {self.actual!r}"
        return f"{self.field}: {self.file} {found}, expected {self.expected!r}"


@record.dataclass(frozen=True, slots=True)
class Setting:
    """The wanted content of one file.

    Two settings of one field are two files for the same thing, of which a kernel may offer only
    one.
    """

    field: str
    file: str
    value: str
    default: str
    """What a new group holds; such values are not written to one."""
    same: Callable[[str, str], bool] = record.field(default=lambda a, b: a == b, compare=False)
    """Whether (expected, actual) mean the same."""
    may_be_absent: bool = False
    """Kernels may lack the file, which then enforce no value but the default; the caller is told.

    A group without one of the other files is damaged.
    """
    why_absent: str = ""
    """Words for a host without the file: ``boot with swapaccount=1``."""
    hint: str = ""
    """What the kernel accepts, shown when it refuses."""

    @property
    def is_default(self) -> bool:
        """Tell whether a new group needs no write."""
        return self.value == self.default


def same_size(expected: str, actual: str) -> bool:
    """Compare two sizes as the kernel counts them: in pages, rounded down."""
    return _pages(expected) == _pages(actual)


def _pages(text: str) -> int | None:
    size = parse_size(text)
    return None if size is None or size >= _UNLIMITED_FROM else size // PAGE_SIZE


def parse_size(text: str) -> int | None:
    """Return the bytes in a size as the kernel reads one (``64M``), None for no limit.

    Raises:
        ContainerError: *text* is no size.
    """
    if text in ("max", "-1"):
        return None
    digits = text[:-1] if text[-1:].upper() in _SUFFIXES else text
    if not digits.isdecimal():
        raise ContainerError(f"{text!r} is no size (bytes, with K, M, G or T, or max)")
    return int(digits) << _SUFFIXES.get(text[len(digits) :].upper(), 0)


def same_list(expected: str, actual: str) -> bool:
    """Compare two cpu or node lists: ``0,1,2`` is ``0-2``."""
    return parse_list(expected) == parse_list(actual)


def parse_list(text: str) -> frozenset[int]:
    """Return the members of a kernel list like ``0-2,7``.

    Raises:
        ValueError: *text* is not such a list.
    """
    members: set[int] = set()
    for part in text.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            members.update(range(int(first), int(last or first) + 1))
    return frozenset(members)


def same_lines(expected: str, actual: str) -> bool:
    """Compare two files as sets of lines."""
    return set(expected.split("\n")) - {""} == set(actual.split("\n")) - {""}


def same_words(expected: str, actual: str) -> bool:
    """Compare two texts, whatever blanks stand between their words."""
    return expected.split() == actual.split()
