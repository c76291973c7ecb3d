"""Doctor mends while another process makes something: what is half made is no leak."""

import os
import time

import pytest

from runtime.container import containers, doctor, volume
from runtime.container import making as lock
from runtime.container.config import ContainerConfig, read_config
from runtime.container.folders import bury, graveyard, state_folder
from runtime.errors import ConflictError
from runtime.network import attachment, netns, network, plumbing
from runtime.root import Root
from runtime.spec import Process, Spec
from tests.support.testhost import test_host

pytestmark = pytest.mark.kernel

PAUSE_S = 0.3
"""Long enough for a doctor who does not wait to do his worst."""


@pytest.fixture
def root(world):
    with test_host(world):
        yield Root.at(world)


def mend_while(root, make, monkeypatch, owner, name):
    """Run *make* in another process that pauses before *owner.name*; mend meanwhile."""
    original = getattr(owner, name)
    read, write = os.pipe()

    def slowly(*args, **kwargs):
        os.write(write, b".")
        time.sleep(PAUSE_S)
        return original(*args, **kwargs)

    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            monkeypatch.setattr(owner, name, slowly)
            make()
            code = 0
        finally:
            os._exit(code)
    assert os.read(read, 1) == b"."
    found = doctor.mend(root)
    _, status = os.waitpid(pid, 0)
    os.close(read)
    os.close(write)
    assert status == 0
    assert found == ()


def config(name):
    return ContainerConfig(id=name, name=name, spec=Spec(Process(("true",))))


def test_a_container_whose_config_is_not_written_yet(root, monkeypatch):
    made = config("c1")
    create = containers.Containers(root).create
    mend_while(root, lambda: create(made), monkeypatch, containers, "write_config")
    assert read_config(root, "c1") == made
    assert {"upper", "work", "log"} <= set(os.listdir(state_folder(root, "c1")))
    assert doctor.examine(root) == ()


def test_a_volume_that_is_not_recorded_yet(root, monkeypatch):
    made = volume.Volume("v1")
    ensure = lambda: volume.ensure_volume(root, made)  # noqa: E731
    mend_while(root, ensure, monkeypatch, volume, "write_record")
    assert volume.read_volume(root, "v1") == made
    assert volume.data_folder(root, "v1").is_dir()


def test_a_container_that_is_not_connected_yet(root, monkeypatch):
    network.ensure_network(root, "a")
    containers.Containers(root).create(config("c1"))
    path = str(root.run / "netns" / "c1")
    netns.create(path)
    try:
        attach = lambda: attachment.attach(root, "a", "c1", path)  # noqa: E731
        mend_while(root, attach, monkeypatch, plumbing, "connect")
        assert doctor.examine(root) == ()
    finally:
        containers.Containers(root).remove("c1", force=True)
        network.delete_network(root, "a")


def test_two_who_bury_the_same_leave_nothing(root, monkeypatch):
    grave = graveyard(root) / "c1"
    for number in range(400):
        (grave / f"{number:03}" / "deep").mkdir(parents=True)
    pids = [os.fork() or _bury_and_exit(root) for _ in range(2)]
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0]
    assert not grave.exists()


def _bury_and_exit(root: Root) -> int:
    code = 1
    try:
        bury(state_folder(root, "c1"), graveyard(root) / "c1")
        code = 0
    finally:
        os._exit(code)


def test_nobody_waits_forever(root, monkeypatch):
    monkeypatch.setattr(lock, "_TIMEOUT_S", 0.05)
    made = config("c1")
    with lock.making(root):
        containers.Containers(root).create(made)  # makers do not wait for each other
        with pytest.raises(
            ConflictError, match=r"containers or volumes are being made, for 0\.05 s"
        ):
            doctor.mend(root)
    with lock.nobody_making(root), pytest.raises(ConflictError, match="doctor --mend"):
        containers.Containers(root).create(made)
