"""Volumes whose deletion or filling was cut off: whole or not there, and never half of it.

And who is at work in one keeps the folder he has.
"""

import os
import shutil
import signal
import stat
from contextlib import suppress

import pytest

from runtime.container import doctor, recovery, volume
from runtime.container.config import ContainerConfig
from runtime.container.containers import Containers
from runtime.errors import ConflictError, KernelError, StateError
from runtime.root import Root
from runtime.spec import Mount, Process, Spec
from tests.support.fuse import Fuse
from tests.support.testhost import test_host

pytestmark = pytest.mark.kernel


@pytest.fixture
def root(world):
    with test_host(world):
        yield Root.at(world)


@pytest.fixture
def layer(tmp_path):
    """What an image holds at /seed: one file."""
    (tmp_path / "layer/seed").mkdir(parents=True)
    (tmp_path / "layer/seed/file").write_text("seed")
    return str(tmp_path / "layer")


def full(root):
    """Make volume v1, with a file in it."""
    volume.ensure_volume(root, volume.Volume("v1", {"owner": "somebody"}))
    data = volume.data_folder(root, "v1")
    (data / "precious").write_text("data")
    return data


@pytest.fixture
def half_deleted(root, monkeypatch):
    """A volume whose deletion was cut off at its first file."""
    data = full(root)

    def cut_off(*_args, **_kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", cut_off)
        with pytest.raises(KeyboardInterrupt):
            volume.delete_volume(root, "v1")
    return data


def test_a_volume_is_gone_as_soon_as_its_deletion_begins(root, half_deleted):
    assert not half_deleted.exists()
    assert list(volume.list_volumes(root)) == []


def test_a_deletion_that_was_cut_off_is_finished_by_the_next_command(root, half_deleted):
    recovery.recover(root)
    assert os.listdir(root.state / "volumes") == []


def test_a_deletion_that_was_cut_off_is_named_and_finished_by_doctor(root, half_deleted):
    (found,) = doctor.examine(root)
    assert (found.kind, found.problem) == ("folder", "is of a volume that is gone")
    assert doctor.mend(root) == (found,)
    assert os.listdir(root.state / "volumes") == []
    assert doctor.examine(root) == ()


def test_a_volume_is_deleted_beside_an_older_one_of_its_name_that_is_not_gone_yet(
    root, half_deleted
):
    full(root)
    volume.delete_volume(root, "v1")
    assert os.listdir(root.state / "volumes") == []
    volume.delete_volume(root, "v1")


def test_a_copy_is_on_disk_before_it_is_recorded(root, layer, monkeypatch):
    volume.ensure_volume(root, volume.Volume("v1"))
    data = volume.data_folder(root, "v1")
    steps = []

    def note(name):
        original = getattr(volume, name)

        def call(*args, **kwargs):
            steps.append((name, (data / "file").exists()))
            return original(*args, **kwargs)

        monkeypatch.setattr(volume, name, call)

    for name in ("syncfs", "sync_folder", "write_record"):
        note(name)
    volume.prepare(root, "v1", (layer,), "/seed")
    assert steps == [
        ("syncfs", False),
        *[("sync_folder", True)] * 2,
        ("write_record", True),
    ]
    assert volume.read_volume(root, "v1").populated


def test_a_copy_that_does_not_get_to_the_disk_is_none(root, layer, monkeypatch):
    volume.ensure_volume(root, volume.Volume("v1"))

    def fail(_fd):
        raise KernelError(5, "syncfs")

    with monkeypatch.context() as patch:
        patch.setattr(volume, "syncfs", fail)
        with pytest.raises(KernelError):
            volume.prepare(root, "v1", (layer,), "/seed")
    assert os.listdir(volume.data_folder(root, "v1")) == []
    assert not volume.read_volume(root, "v1").populated
    volume.prepare(root, "v1", (layer,), "/seed")
    assert (volume.data_folder(root, "v1") / "file").read_text() == "seed"


def test_a_volume_that_was_used_as_it_is_is_never_filled(root, layer):
    volume.ensure_volume(root, volume.Volume("v1"))
    volume.prepare(root, "v1", (), "/seed", copy=False)
    volume.ensure_volume(root, volume.Volume("v1"))
    volume.prepare(root, "v1", (layer,), "/seed")
    assert os.listdir(volume.data_folder(root, "v1")) == []


def test_who_has_the_folder_open_sees_what_comes(root, layer):
    volume.ensure_volume(root, volume.Volume("v1"))
    shell = os.open(volume.data_folder(root, "v1"), os.O_RDONLY)
    try:
        volume.prepare(root, "v1", (layer,), "/seed")
        assert os.listdir(shell) == ["file"]
    finally:
        os.close(shell)


def test_what_somebody_puts_there_meanwhile_is_left_alone(root, layer, monkeypatch):
    volume.ensure_volume(root, volume.Volume("v1"))
    data = volume.data_folder(root, "v1")
    copy = volume._copy

    def beside(*args):
        (data / "own").touch()
        return copy(*args)

    monkeypatch.setattr(volume, "_copy", beside)
    volume.prepare(root, "v1", (layer,), "/seed")
    assert os.listdir(data) == ["own"]
    assert sorted(os.listdir(data.parent)) == ["data", "lock", "meta.json"]


def prepare_killed(root, layer, left):
    """Prepare v1 in a process that is killed at its *left*-th point; False if it got through."""
    told = os.memfd_create("told")
    pid = os.fork()
    if pid == 0:
        try:
            Fuse(left, told).fit(deep=True)
            volume.prepare(root, "v1", (layer,), "/seed")
        finally:
            os._exit(0)
    os.close(told)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("copy", [True, False])
def test_killed_between_any_two_steps_the_next_one_goes_on(root, tmp_path, layer, copy):
    """And its folder is always the one it was; who does not want a copy finds all or nothing."""
    (tmp_path / "layer/seed/more").mkdir()
    (tmp_path / "layer/seed").chmod(0o711)
    kills = whole = 0
    while True:
        volume.ensure_volume(root, volume.Volume("v1"))
        data = volume.data_folder(root, "v1")
        before = data.stat().st_ino
        killed = prepare_killed(root, layer, kills)
        volume.prepare(root, "v1", (layer,), "/seed", copy=copy)
        found = sorted(os.listdir(data))
        assert data.stat().st_ino == before
        assert found == ["file", "more"] or (not copy and killed and found == [])
        assert data.stat().st_mode & 0o777 == (0o711 if found else 0o755)
        recovery.recover(root)
        assert sorted(os.listdir(data.parent)) == ["data", "lock", "meta.json"]
        volume.delete_volume(root, "v1")
        whole += bool(found)
        if not killed:
            break
        kills += 1
    assert kills > 10
    assert whole > 3


@pytest.fixture
def orphan(root, layer, tmp_path, monkeypatch):
    """The pid of a cp into volume v1 that does not come to an end, and whose apply was killed."""
    volume.ensure_volume(root, volume.Volume("v1"))
    programs, born = tmp_path / "bin", tmp_path / "born"
    programs.mkdir()
    os.mkfifo(born)
    (programs / "cp").write_text(f"#!/bin/sh\necho $$ > {born}\nexec sleep 98755\n")
    (programs / "cp").chmod(0o755)
    apply = os.fork()
    if apply == 0:
        try:
            os.environ["PATH"] = f"{programs}:{os.environ['PATH']}"
            volume.prepare(root, "v1", (layer,), "/seed")
        finally:
            os._exit(1)
    pid = int(born.read_text())
    pidfd = os.pidfd_open(pid)
    note = volume.data_folder(root, "v1").parent / "lock"
    while "(cp)" not in note.read_text():
        os.sched_yield()
    os.kill(apply, signal.SIGKILL)
    os.waitpid(apply, 0)
    yield pid
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.close(pidfd)


def test_nobody_fills_a_volume_beside_a_cp_whose_apply_was_killed(root, layer, orphan, monkeypatch):
    monkeypatch.setattr(volume, "_WAIT_S", 0.05)
    (volume.data_folder(root, "v1").parent / "incoming/part").write_text("half")
    with pytest.raises(
        ConflictError, match=rf"volume v1 is being filled by process {orphan} \(cp\), for 0\.05 s"
    ):
        volume.prepare(root, "v1", (layer,), "/seed")
    with pytest.raises(ConflictError, match="v1 is being filled"):
        volume.prepare(root, "v1", (), "/seed", copy=False)
    with pytest.raises(ConflictError, match="v1 is being filled"):
        volume.ensure_volume(root, volume.Volume("v1"))
    # Nor is what it writes taken away from under it.
    recovery.recover(root)
    assert doctor.mend(root) == ()
    assert (volume.data_folder(root, "v1").parent / "incoming/part").exists()

    monkeypatch.setattr(volume, "_WAIT_S", 10)
    os.kill(orphan, signal.SIGKILL)
    volume.prepare(root, "v1", (layer,), "/seed")
    assert os.listdir(volume.data_folder(root, "v1")) == ["file"]


def test_a_folder_that_a_version_before_gave_away_keeps_its_owner_and_mode(root, tmp_path, layer):
    """Its record does not say so."""
    os.chown(tmp_path / "layer/seed", 999, 999)
    volume.ensure_volume(root, volume.Volume("v1"))
    data = volume.data_folder(root, "v1")
    os.chown(data, 1000, -1)
    data.chmod(0o750)
    volume.prepare(root, "v1", [layer], "/seed")
    found = data.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (1000, 999, 0o750)
    assert (data / "file").read_text() == "seed"


def test_a_volume_begins_with_what_all_layers_make_of_a_folder(root, tmp_path, layer):
    upper = tmp_path / "upper/seed"
    upper.mkdir(parents=True)
    (upper / "more").write_text("more")
    os.mknod(upper / "file", stat.S_IFCHR, 0)  # a whiteout
    volume.ensure_volume(root, volume.Volume("v1"))
    volume.prepare(root, "v1", (layer, str(tmp_path / "upper")), "/seed")
    assert os.listdir(volume.data_folder(root, "v1")) == ["more"]


def test_what_somebody_puts_in_the_way_of_a_copy_that_was_cut_off_stays(root, layer, monkeypatch):
    volume.ensure_volume(root, volume.Volume("v1"))
    data = volume.data_folder(root, "v1")

    def cut_off(*_args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(volume, "_move_in", cut_off)
        with pytest.raises(KeyboardInterrupt):
            volume.prepare(root, "v1", [layer], "/seed")
    (data / "file").mkdir()
    (data / "file/mine").write_text("mine")
    volume.prepare(root, "v1", [layer], "/seed")
    assert (data / "file/mine").read_text() == "mine"
    assert sorted(p.name for p in data.parent.iterdir()) == ["data", "lock", "meta.json"]


def mounted(root):
    """Make volume v1, with a file in it, and container web that has it."""
    data = full(root)
    mounts = (Mount("/data", "bind", str(data)),)
    Containers(root).create(ContainerConfig("c1", "web", Spec(Process(("true",)), mounts=mounts)))
    return data


def test_doctor_keeps_a_volume_without_a_record_that_a_container_has_mounted(root):
    data = mounted(root)
    (data / "precious").unlink()
    volume.record_file(root, "v1").unlink()
    (found,) = [finding for finding in doctor.mend(root) if finding.kind == "volume"]
    assert found.problem == "belongs to no volume, but a container has it"
    assert data.is_dir()


def test_a_volume_that_a_container_has_mounted_is_not_deleted(root):
    data = mounted(root)
    with pytest.raises(StateError, match="cannot delete volume v1: used by web"):
        volume.delete_volume(root, "v1")
    assert (data / "precious").exists()
    shutil.rmtree(data)
    volume.delete_volume(root, "v1")
    assert not data.parent.exists()
