"""A pid that is somebody else's by now: nothing of that process is read or changed."""

import os
import subprocess

import pytest

from runtime.cgroup.group import Cgroup
from runtime.cgroup.hierarchy import Hierarchy
from runtime.container import inside
from runtime.container.config import ContainerConfig
from runtime.kernel.procfs import read_cgroup, start_ticks
from runtime.root import Root
from runtime.spec import Process, Spec
from runtime.supervisor.status import Status

pytestmark = pytest.mark.kernel

CONFIG = ContainerConfig(id="c1", name="c1", spec=Spec(Process(("true",)), hostname="ours"))


@pytest.fixture
def stranger():
    """A process with a host name of its own."""
    script = "hostname stranger; echo up; exec sleep 98757"
    words = ["unshare", "--uts", "--ipc", "--net", "sh", "-c", script]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"up\n"
        assert os.readlink(f"/proc/{process.pid}/ns/uts") != os.readlink("/proc/self/ns/uts")
        yield process.pid
        process.kill()


def status(pid, *, late):
    return Status(id="c1", state="running", pid=pid, start_time=start_ticks(pid) - late)


def test_it_is_not_read(stranger):
    read = lambda late: inside.read_namespaces([(CONFIG, status(stranger, late=late))])  # noqa: E731
    assert read(0) == {"c1": {"hostname": "stranger"}}
    assert read(1) == {}


def test_it_is_not_mended(stranger, world):
    group = Cgroup(Hierarchy.detect(), f"{Root.at(world).cgroup}/c1")
    before = read_cgroup(stranger)
    inside.mend(CONFIG, status(stranger, late=1), group)
    assert read_cgroup(stranger) == before
    (kept,) = inside.read_namespaces([(CONFIG, status(stranger, late=0))]).values()
    assert kept["hostname"] == "stranger"
