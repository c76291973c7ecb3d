"""Where the controllers are, told from mountinfo files of hosts of every kind."""

from pathlib import Path

import pytest

from runtime.cgroup.group import Cgroup, list_groups
from runtime.cgroup.hierarchy import Hierarchy, parents, walk
from runtime.errors import UnsupportedHostError

V2_CONTROLLERS = "cpuset cpu io memory hugetlb pids\n"


def detect(tmp_path: Path, *mounts: str, v2: str | None = None) -> Hierarchy:
    """Write a mountinfo of ``fstype options folder`` words and look at it."""
    lines = ["20 1 0:20 / / rw - ext4 /dev/vda rw"]
    for mount in mounts:
        fstype, per_mount, options, folder = mount.split(" ")
        point = tmp_path / folder
        point.mkdir(parents=True, exist_ok=True)
        if fstype == "cgroup2" and v2 is not None:
            (point / "cgroup.controllers").write_text(v2)
        lines.append(f"30 20 0:30 / {point} {per_mount} - {fstype} {fstype} {options}")
    (tmp_path / "mountinfo").write_text("\n".join(lines) + "\n")
    return Hierarchy.detect(str(tmp_path / "mountinfo"))


def test_v2_host(tmp_path: Path) -> None:
    found = detect(tmp_path, "cgroup2 rw rw,nsdelegate cg", v2=V2_CONTROLLERS)
    assert found.mode == "v2"
    assert found.unified == str(tmp_path / "cg")
    assert found.on(2) == {*V2_CONTROLLERS.split(), "devices"}
    assert found.always == {"cpu", "memory", "pids", "io"}
    assert found.uses_unified
    assert found.folders() == (str(tmp_path / "cg"),)


def test_v1_host_with_controllers_mounted_together(tmp_path: Path) -> None:
    found = detect(
        tmp_path,
        "cgroup rw rw,cpu,cpuacct cg/cpu,cpuacct",
        "cgroup rw rw,memory cg/memory",
        "cgroup rw rw,freezer cg/freezer",
        "cgroup rw rw,xattr,name=systemd cg/systemd",
    )
    assert found.mode == "v1"
    assert found.places["cpu"] == found.places["cpuacct"]
    assert found.always == {"cpu", "cpuacct", "memory", "freezer"}
    assert found.named == (str(tmp_path / "cg/systemd"),)
    assert not found.uses_unified
    assert len(found.folders()) == 4


def test_hybrid_host_whose_v2_has_nothing_of_use(tmp_path: Path) -> None:
    found = detect(
        tmp_path,
        "cgroup rw rw,memory cg/memory",
        "cgroup rw rw,freezer cg/freezer",
        "cgroup2 rw rw cg/unified",
        v2="hugetlb\n",
    )
    assert found.mode == "hybrid"
    assert found.places["hugetlb"].version == 2
    assert not found.uses_unified


def test_hybrid_host_with_a_controller_on_either_side(tmp_path: Path) -> None:
    found = detect(
        tmp_path,
        "cgroup rw rw,cpu cg/cpu",
        "cgroup rw rw,freezer cg/freezer",
        "cgroup2 rw rw cg/unified",
        v2="memory pids\n",
    )
    assert found.mode == "hybrid"
    assert {name: place.version for name, place in found.places.items()} == {
        "cpu": 1,
        "freezer": 1,
        "memory": 2,
        "pids": 2,
        "devices": 2,
    }
    assert found.uses_unified


def test_hybrid_host_without_v1_freezer_is_frozen_by_v2(tmp_path: Path) -> None:
    found = detect(tmp_path, "cgroup rw rw,memory cg/memory", "cgroup2 rw rw cg/u", v2="\n")
    assert found.uses_unified


def test_second_and_read_only_mounts_are_not_used(tmp_path: Path) -> None:
    found = detect(
        tmp_path,
        "cgroup ro rw,memory jail/memory",
        "cgroup rw rw,memory cg/memory",
        "cgroup rw rw,memory elsewhere/memory",
    )
    assert found.places["memory"].folder == str(tmp_path / "cg/memory")


def test_no_cgroups_is_said_with_what_was_read(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedHostError, match="no cgroup file system is mounted"):
        detect(tmp_path)


@pytest.mark.parametrize("name", ["bayplan", "bayplan-ab12", "bayplan/x", "bayplan-ab12/x/y"])
def test_our_names(name: str) -> None:
    assert Cgroup(Hierarchy({}, None), name).name == name


@pytest.mark.parametrize(
    "name",
    [
        *("", "/", "docker/x", "/bayplan/x", "bayplan//x", "bayplan/", "bayplanner/x", "bayplan-"),
        *("bayplan/..", "bayplan/../docker", "bayplan/./x", "../bayplan", "system.slice/bayplan"),
    ],
)
def test_groups_of_others_cannot_even_be_named(name: str) -> None:
    with pytest.raises(ValueError, match="not the name of a cgroup of ours"):
        Cgroup(Hierarchy({}, None), name)


def test_groups_are_listed_over_all_hierarchies(tmp_path: Path) -> None:
    found = detect(tmp_path, "cgroup rw rw,cpu cg/cpu", "cgroup rw rw,memory cg/memory")
    (tmp_path / "cg/cpu/bayplan-t/one").mkdir(parents=True)
    (tmp_path / "cg/memory/bayplan-t/two").mkdir(parents=True)
    (tmp_path / "cg/memory/bayplan-t/cgroup.procs").write_text("")
    assert list_groups(found, "bayplan-t") == ("one", "two")
    assert list_groups(found, "bayplan-other") == ()


def test_names_above_and_folders_below(tmp_path: Path) -> None:
    assert parents("a/b/c") == ("a", "a/b")
    assert parents("a") == ()
    (tmp_path / "g/x/y").mkdir(parents=True)
    order = walk(str(tmp_path / "g"))
    assert order == tuple(str(tmp_path / name) for name in ("g", "g/x", "g/x/y"))
    assert walk(str(tmp_path / "none")) == ()
