"""The v1 hugetlb controller; its files have other names than those of v2."""

from runtime.cgroup.controller import Controller
from runtime.cgroup.setting import Setting
from runtime.cgroup.v2.hugetlb import is_wanted, settings_of
from runtime.spec import Resources


def settings(resources: Resources) -> tuple[Setting, ...]:
    """Return two files for each page size that is given."""
    return settings_of(resources, file="limit_in_bytes", default="-1")


HUGETLB = Controller(name="hugetlb", settings=settings, wanted=is_wanted)
