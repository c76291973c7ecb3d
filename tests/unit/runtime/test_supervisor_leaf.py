"""Moving out of a session's control groups, on a tree of plain files."""

import pytest

from runtime.supervisor import leaf


@pytest.fixture
def host(tmp_path):
    """Version 1 memory and pids, a named hierarchy, version 2; the session sits in some."""
    proc = tmp_path / "proc/self"
    proc.mkdir(parents=True)
    (proc / "cgroup").write_text(
        "4:memory:/session/7\n3:cpu,cpuacct:/session/7\n2:pids:/\n1:name=systemd:/user\n0::/\n"
    )
    mounts = {
        "memory": "cgroup rw,memory",
        "cpu,cpuacct": "cgroup rw,cpu,cpuacct",
        "pids": "cgroup rw,pids",
        "systemd": "cgroup rw,xattr,name=systemd",
        "unified": "cgroup2 rw",
    }
    # Somebody has mounted something under names that no line could be made of.
    lines = [b"1 0 0:1 / /m\r\xff\x0bx rw - tmpfs t rw"]
    for name, kind in mounts.items():
        folder = tmp_path / name
        for part in (folder, folder / "bayplan-ab12/supervisor"):
            part.mkdir(parents=True, exist_ok=True)
            (part / ("cgroup.procs" if name == "unified" else "tasks")).touch()
        lines.append(f"2 1 0:2 / {folder} rw - {kind.replace(' ', ' none ')}".encode())
    # A stranger's view of version 2 is not ours.
    lines.append(f"3 1 0:3 /a {tmp_path}/other rw - cgroup2 none rw".encode())
    (proc / "mountinfo").write_bytes(b"\n".join(lines) + b"\n")
    return tmp_path


def joined(host):
    files = [*host.glob("*/bayplan-ab12/supervisor/*"), *host.glob("*/tasks")]
    return {str(f.parent.relative_to(host)) for f in files if f.read_text() == "0"}


def test_only_where_the_caller_is_not_at_the_root(host):
    leaf.enter("bayplan-ab12", proc=str(host / "proc"))
    assert joined(host) == {
        f"{name}/bayplan-ab12/supervisor" for name in ("memory", "cpu,cpuacct", "systemd")
    }


def test_the_root_has_to_do_where_the_leaf_cannot_be_had(host):
    (host / "memory/bayplan-ab12/supervisor/tasks").unlink()
    leaf.enter("bayplan-ab12", proc=str(host / "proc"))
    assert "memory" in joined(host)


def test_leaving_removes_the_leaf_and_the_group_where_it_is_empty(host):
    (host / "memory/bayplan-ab12/other").mkdir()
    for file in host.glob("*/bayplan-ab12/supervisor/*"):
        file.unlink()  # the kernel's files do not keep a group from being removed
    leaf.leave("bayplan-ab12", proc=str(host / "proc"))
    assert [str(p.relative_to(host)) for p in host.glob("*/bayplan-ab12*")] == [
        "memory/bayplan-ab12"
    ]
    leaf.leave("bayplan-ab12", proc=str(host / "proc"))
