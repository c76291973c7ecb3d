"""Killed with -9 before and after each step on the real host, the next run converges.

A step is what the engine writes down, what a driver does, and each message to kernel, firewall
and supervisor; the deep runs also stop at each change of a file. The normal run takes a sample
of the steps, the long one all of them.
"""

import itertools
from collections.abc import Iterator

import pytest

from tests.support.site import Site

pytestmark = pytest.mark.e2e


@pytest.fixture
def site(world):
    site = Site(world, world)
    yield site
    site.bayplan("delete", "-p", "test", "--delete-volumes")


def steps(first: int, stride: int) -> Iterator[int]:
    return itertools.count(first, stride)


def create_and_delete(site: Site, points: Iterator[int], *, deep: bool = False) -> int:
    """Kill a first apply at each point and mend it; then a delete at the same; returns kills."""
    kills = 0
    for point in points:
        made = site.apply("alpha", point, deep=deep)
        if not made.was_killed:
            return kills
        site.check_converges("alpha", f"create killed at {point}: {made.last}")
        gone = site.delete(point, deep=deep)
        site.check_gone(f"delete killed at {point}: {gone.last}")
        kills += 1 + gone.was_killed
        if point % 3 == 0:  # never mended, but taken away at once
            made = site.apply("alpha", point, deep=deep)
            site.check_gone(f"create killed at {point} and deleted: {made.last}")
    return kills


def update(site: Site, points: Iterator[int], *, deep: bool = False) -> int:
    """Kill an update at each point; go on with it, or every third time back; returns kills."""
    site.check_converges("alpha", "before")
    now, other = "alpha", "beta"
    kills = 0
    for point in points:
        ran = site.apply(other, point, deep=deep)
        if not ran.was_killed:
            return kills
        kills += 1
        if point % 3 == 0:
            site.check_converges(now, f"update killed at {point} and taken back: {ran.last}")
        else:
            site.check_converges(other, f"update killed at {point}: {ran.last}")
            now, other = other, now
    return kills


def test_first_apply_and_delete_killed_at_some_steps(site):
    assert create_and_delete(site, steps(4, 41)) > 5


def test_update_killed_at_some_steps(site):
    assert update(site, steps(7, 37)) > 3


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_first_apply_and_delete_killed_at_each_step(site):
    assert create_and_delete(site, steps(0, 1)) > 150


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_update_killed_at_each_step(site):
    assert update(site, steps(0, 1)) > 100


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_first_apply_and_delete_killed_between_changes_of_files(site):
    assert create_and_delete(site, steps(0, 7), deep=True) > 60


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_update_killed_between_changes_of_files(site):
    assert update(site, steps(3, 7), deep=True) > 60
