"""Mount options and mounts, as operations."""

import pytest

from runtime.container.defaults import default_mounts
from runtime.errors import ContainerError
from runtime.kernel import mount as kernel
from runtime.rootfs.idmap import parse_idmap
from runtime.rootfs.options import WORDS, attributes, cleared_attributes, parse_options
from runtime.rootfs.plan import cgroup_view, plan_mounts
from runtime.spec import IdMapping, LinuxDevice, Mount


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        (("ro", "nosuid"), kernel.MS_RDONLY | kernel.MS_NOSUID),
        (("ro", "rw"), 0),
        (("nodev", "noexec", "dev"), kernel.MS_NOEXEC),
        (("defaults",), 0),
        (("rro",), kernel.MS_RDONLY),
    ],
)
def test_flags(words, flags):
    assert parse_options(words).flags == flags


def test_what_is_no_flag_is_for_the_file_system():
    assert parse_options(("mode=755", "ro", "size=1m")).data == ("mode=755", "size=1m")


@pytest.mark.parametrize(
    ("word", "propagation"),
    [("rprivate", kernel.MS_PRIVATE), ("slave", kernel.MS_SLAVE), ("rshared", kernel.MS_SHARED)],
)
def test_propagation(word, propagation):
    assert parse_options((word,)).propagation == propagation


SPECIFIED = """
async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev
nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private
ratime rbind rdev rdiratime relatime remount rexec rnoatime rnodev rnodiratime rnoexec rnorelatime
rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid
rsymfollow runbindable rw shared silent slave strictatime suid symfollow sync tmpcopyup unbindable
idmap ridmap
"""


def test_every_word_of_the_specification_is_understood():
    assert set(SPECIFIED.split()) == WORDS
    for word in WORDS:
        assert parse_options((word,)).data == ()


def test_a_later_recursive_word_overrules():
    options = parse_options(("rro", "rnoexec", "rrw"))
    assert options.flags == options.recursive_flags == kernel.MS_NOEXEC
    assert options.recursive_clear == kernel.MS_RDONLY
    assert parse_options(("rrw", "rro")).recursive_clear == 0
    assert cleared_attributes(kernel.MS_RDONLY | kernel.MS_STRICTATIME) == 0x71


def test_mappings_in_an_option_are_the_hosts_or_the_containers():
    own = (IdMapping(0, 0, 1), IdMapping(1, 2, 1000))
    uids, gids = parse_idmap("uids=0-2-10#10-100-10;gids=@1-3-10", own, own)
    assert uids == (IdMapping(0, 2, 10), IdMapping(10, 100, 10))
    assert gids == (IdMapping(1, 4, 10),)


@pytest.mark.parametrize("text", ["1", "uids=1", "uids=0-1-2;uids=0-1-2", "gids=@9-1-1"])
def test_mappings_that_cannot_be_meant(text):
    with pytest.raises(ContainerError, match="idmap"):
        parse_idmap(text, (IdMapping(0, 0, 5),), (IdMapping(0, 0, 5),))


def test_attributes_of_mount_setattr():
    assert attributes(kernel.MS_RDONLY | kernel.MS_NOEXEC) == (0x9, 0)
    assert attributes(kernel.MS_NOATIME) == (0x10, 0x70)
    assert attributes(0) == (0, 0)


def test_binds_are_cloned_on_the_host_and_attached_inside_in_order():
    plan = plan_mounts(
        (
            Mount("/a", None, "/src/a", ("bind", "ro")),
            Mount("/t", "tmpfs", "tmpfs"),
            Mount("/b", "bind", "/src/b", ("rbind", "rslave")),
        )
    )
    assert plan.host == [
        ("tree", 0, "/src/a", False),
        ("attributes", 0, 1, 0, kernel.MS_PRIVATE, False),
        ("tree", 1, "/src/b", True),
        ("attributes", 1, 0, 0, kernel.MS_SLAVE, True),
    ]
    assert [o[:2] for o in plan.inside] == [("attach", 0), ("mount", "tmpfs"), ("attach", 1)]


def test_a_fresh_dev_is_filled_and_a_bound_one_is_not():
    fresh = plan_mounts(default_mounts()).inside
    assert ("node", "/dev/null", 0o20666, 1, 3, 0, 0) in fresh
    assert ("symlink", "/proc/self/fd", "/dev/fd") in fresh
    bound = plan_mounts((Mount("/dev", "bind", "/dev", ("rbind",)),)).inside
    assert bound == [("attach", 0, "/dev")]


def test_a_read_only_tmpfs_becomes_so_last():
    plan = plan_mounts((Mount("/t", "tmpfs", "tmpfs", ("ro",)),))
    assert plan.inside == [("mount", "tmpfs", "/t", "tmpfs", 0, None)]
    assert plan.last == [("mount_attributes", "/t", kernel.MOUNT_ATTR_RDONLY)]


def test_devices():
    plan = plan_mounts((), devices=(LinuxDevice("/dev/sda", "b", 8, 0, 0o600, 1, 2),))
    assert plan.inside == [("node", "/dev/sda", 0o060600, 8, 0, 1, 2)]


CGROUP = Mount("/sys/fs/cgroup", "cgroup", "cgroup", ("ro",))


def test_version_2_is_one_tree():
    view = cgroup_view(("/sys/fs/cgroup/bayplan/x/cgroup.procs",))
    assert view == (("", "/sys/fs/cgroup/bayplan/x"),)
    plan = plan_mounts((CGROUP,), cgroups=view)
    assert plan.inside == [("attach", 0, "/sys/fs/cgroup")]


def test_version_1_is_a_folder_for_each_hierarchy():
    view = cgroup_view(
        ("/sys/fs/cgroup/cpu,cpuacct/b/x/tasks", "/sys/fs/cgroup/unified/b/x/cgroup.procs")
    )
    plan = plan_mounts((CGROUP,), cgroups=view)
    assert plan.inside[1:] == [
        ("attach", 0, "/sys/fs/cgroup/cpu,cpuacct"),
        ("symlink", "cpu,cpuacct", "/sys/fs/cgroup/cpu"),
        ("symlink", "cpu,cpuacct", "/sys/fs/cgroup/cpuacct"),
        ("attach", 1, "/sys/fs/cgroup/unified"),
    ]


def test_groups_mounted_elsewhere_are_not_shown():
    assert cgroup_view(("/mnt/cgroup/x/tasks",)) == ()


@pytest.mark.parametrize(
    ("mount", "text"),
    [
        (Mount("/data"), "has no type"),
        (Mount("/data", "bind", "src"), "not absolute: src"),
        (Mount("/data", "bind", "/s", ("size=1",)), "bind on /data has no option size=1"),
        (Mount("/data", "tmpfs", None, ("rshared",)), "propagation is for binds only"),
    ],
)
def test_mounts_that_cannot_be_meant(mount, text):
    with pytest.raises(ContainerError, match=text):
        plan_mounts((mount,))
