"""Device rules as a program on a v2 group: what a member may open, and what is seen of changes.

Works wherever cgroup2 is mounted: on a hybrid host too, if the group is made in that part alone.
"""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.cgroup.group import Cgroup
from runtime.cgroup.hierarchy import Hierarchy, Place
from runtime.cgroup.v2 import devices
from runtime.kernel import ebpf
from runtime.root import Root
from runtime.spec import DeviceRule, Resources
from tests.support.host import cannot

pytestmark = pytest.mark.kernel

NOTHING = DeviceRule(allow=False, access="rwm")

ATTEMPTS = """
import os, sys
with open(sys.argv[1], "w") as file:
    file.write("0")
for device in sys.argv[2:]:
    kind, major, minor = device.split(":")
    number = os.makedev(int(major), int(minor))
    found = ""
    for letter, flags in (("r", os.O_RDONLY), ("w", os.O_WRONLY), ("+", os.O_RDWR)):
        try:
            os.close(os.open(f"nodes/{major}-{minor}", flags))
            found += letter
        except PermissionError:
            pass
    try:
        os.mknod("nodes/made", 0o600 | int(kind), number)
        os.unlink("nodes/made")
        found += "m"
    except PermissionError:
        pass
    print(found)
"""


@pytest.fixture
def hierarchy() -> Hierarchy:
    unified = Hierarchy.detect().unified
    if unified is None:
        cannot("cgroup2 is not mounted")
    return Hierarchy({"devices": Place(2, unified)}, unified)


@pytest.fixture
def group(world: Path, hierarchy: Hierarchy) -> Iterator[Cgroup]:
    parent = Root.at(world).cgroup
    yield Cgroup(hierarchy, f"{parent}/box")
    Cgroup(hierarchy, parent).delete()


def may(group: Cgroup, folder: Path, *numbers: tuple[int, int]) -> list[str]:
    """Return what a member may do with each device: some of ``rw+m``; + is reading and writing."""
    nodes = folder / "nodes"
    nodes.mkdir(exist_ok=True)
    for major, minor in numbers:
        node = nodes / f"{major}-{minor}"
        if not node.exists():
            os.mknod(node, 0o600 | stat.S_IFCHR, os.makedev(major, minor))
    (procs,) = group.join_files()
    wanted = [f"{stat.S_IFCHR}:{major}:{minor}" for major, minor in numbers]
    argv = [sys.executable, "-ISc", ATTEMPTS, procs, *wanted]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.split("\n")[:-1]


def rule(sign: str, access: str, major: int | None = None, minor: int | None = None) -> DeviceRule:
    return DeviceRule(sign == "+", "c", major, minor, access)


@pytest.mark.parametrize(
    ("rules", "null", "zero"),
    [
        ((DeviceRule(allow=True),), "rw+m", "rw+m"),
        ((NOTHING,), "", ""),
        ((NOTHING, rule("+", "rw", 1, 3)), "rw+", ""),
        ((NOTHING, rule("+", "r", 1, 3)), "r", ""),
        ((NOTHING, rule("+", "r", 1, 3), rule("+", "w", 1, 3)), "rw+", ""),
        ((NOTHING, rule("+", "m"), rule("+", "w", 1)), "wm", "wm"),
        ((NOTHING, rule("+", "rwm", None, 5)), "", "rw+m"),
        ((NOTHING, rule("+", "rwm", 1, 3), rule("-", "m", 1, 3)), "rw+", ""),
        ((NOTHING, DeviceRule(True, "b", 1, 3, "rwm")), "", ""),
        ((DeviceRule(allow=True), rule("-", "w", 1, 3)), "rm", "rw+m"),
        ((rule("-", "rwm", 1),), "", ""),
        ((rule("-", "rwm", 1, 3), DeviceRule(allow=True)), "rw+m", "rw+m"),
    ],
)
def test_a_member_may_do_what_the_rules_come_to(group, world, rules, null, zero):
    resources = Resources(devices=rules)
    assert group.create(resources) == ()
    assert may(group, world, (1, 3), (1, 5)) == [null, zero]
    assert group.deviations(resources) == ()
    group.delete()


def test_a_change_is_one_step_and_is_seen(group, world):
    narrow = Resources(devices=(NOTHING, rule("+", "rw", 1, 3)))
    wide = Resources(devices=(NOTHING, rule("+", "rw", 1)))
    group.create(narrow)
    (told,) = group.deviations(wide)
    assert (told.field, told.expected) == ("devices", "none allowed\nc 1:* rw")
    group.update(wide)
    assert may(group, world, (1, 3), (1, 5)) == ["rw+", "rw+"]
    assert group.deviations(wide) == ()
    group.update(Resources())
    assert may(group, world, (1, 3)) == ["rw+m"]
    assert [d.actual for d in group.deviations(narrow)] == ["all allowed"]
    group.delete()


def test_programs_taken_off_or_doubled_by_hand_are_seen_and_mended(group, world, hierarchy):
    resources = Resources(devices=(NOTHING, rule("+", "rw", 1, 3)))
    group.create(resources)
    folder = os.open(f"{hierarchy.unified}/{group.name}", os.O_RDONLY)
    try:
        (number,) = ebpf.attached(folder)
        program = ebpf.open_program(number)
        ebpf.detach(folder, program)
        os.close(program)
        assert len(group.deviations(resources)) == 1
        group.update(resources)
        assert group.deviations(resources) == ()
        strict = devices.compile_program(devices.verdict((NOTHING,)))
        program = ebpf.load(strict, devices.program_name(strict))
        ebpf.attach(folder, program)
        os.close(program)
        assert may(group, world, (1, 3)) == [""]
        assert len(group.deviations(resources)) == 1
        group.update(resources)
        assert may(group, world, (1, 3)) == ["rw+"]
    finally:
        os.close(folder)
    group.delete()


def test_of_others_programs_nothing_is_changed(group, world, hierarchy):
    """As of systemd's, for ``DevicePolicy=``: what it denies stays denied."""
    resources = Resources(devices=(NOTHING, rule("+", "rw", 1)))
    group.create(resources)
    folder = os.open(f"{hierarchy.unified}/{group.name}", os.O_RDONLY)
    try:
        code = devices.compile_program(devices.verdict((NOTHING, rule("+", "r", 1))))
        program = ebpf.load(code, "sd_devices")
        ebpf.attach(folder, program)
        os.close(program)
        assert group.deviations(resources) == ()
        group.update(resources)
        assert may(group, world, (1, 3)) == ["r"]
        assert "sd_devices" in ebpf.attached(folder).values()
    finally:
        os.close(folder)
    group.delete()


def test_hundreds_of_rules_are_one_program(group, world):
    rules = (NOTHING, *(rule("+", "rw", 1, minor) for minor in range(3, 700)))
    resources = Resources(devices=rules)
    group.create(resources)
    assert may(group, world, (1, 3), (1, 5), (5, 0)) == ["rw+", "rw+", ""]
    assert group.deviations(resources) == ()
    group.delete()


def test_no_descriptor_is_left(group):
    before = os.listdir("/proc/self/fd")
    for minor in range(5):
        group.create(Resources(devices=(NOTHING, rule("+", "rw", 1, minor))))
        group.deviations(Resources(devices=(NOTHING,)))
    assert os.listdir("/proc/self/fd") == before
    group.delete()
