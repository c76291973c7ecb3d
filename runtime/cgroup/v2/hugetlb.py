"""The hugetlb controller: bytes in huge pages, by page size. Made on demand.

What is limited are reservations, where the kernel counts those (Linux 5.7), and what is in use, so
that neither mmap(2) nor a page fault gets more.

Source: Documentation/admin-guide/cgroup-v2.rst, HugeTLB;
Documentation/admin-guide/cgroup-v1/hugetlb.rst.
"""

import functools
from collections.abc import Iterator

from runtime.cgroup.controller import Controller
from runtime.cgroup.setting import Setting, parse_size
from runtime.errors import ContainerError
from runtime.spec import Resources

# What v1 shows for "no limit" depends on the page size, and is less than 2**63 by a page at most.
_UNLIMITED_FROM = 2**62
_UNITS = ("KB", "MB", "GB")


def is_wanted(resources: Resources) -> bool:
    """Tell whether anything is asked for."""
    return bool(resources.hugepage_limits)


def settings(resources: Resources) -> tuple[Setting, ...]:
    """Return two files for each page size that is given."""
    return settings_of(resources, file="max", default="max")


def settings_of(resources: Resources, *, file: str, default: str) -> tuple[Setting, ...]:
    """Return the settings of either version, by the last part of its *file* names.

    Raises:
        ContainerError: that is no page size.
    """
    return tuple(_settings(resources, file, default))


def _settings(resources: Resources, file: str, default: str) -> Iterator[Setting]:
    for limit in resources.hugepage_limits:
        size = limit.page_size
        digits = size[:-2]
        if size[-2:] not in _UNITS or not digits.isdecimal() or digits.startswith("0"):
            raise ContainerError(f"hugepageLimits: {size!r} is no page size like 64KB, 2MB or 1GB")
        same = functools.partial(_same, page=parse_size(size.removesuffix("B")) or 1)
        for name in (f"hugetlb.{size}.rsvd.{file}", f"hugetlb.{size}.{file}"):
            yield Setting(
                field=f"hugepageLimits.{size}",
                file=name,
                value=str(limit.limit),
                default=default,
                same=same,
                may_be_absent=True,
                why_absent="the host has no huge pages of this size",
            )


def _same(expected: str, actual: str, *, page: int) -> bool:
    return _pages(expected, page) == _pages(actual, page)


def _pages(text: str, page: int) -> int | None:
    """Return a limit as the kernel counts it, in huge pages; None for no limit."""
    size = parse_size(text)
    return None if size is None or size >= _UNLIMITED_FROM else size // page


HUGETLB = Controller(
    name="hugetlb",
    settings=settings,
    wanted=is_wanted,
)
