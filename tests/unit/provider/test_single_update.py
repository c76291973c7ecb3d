"""Changes of one container that meet: none is lost, and none brings back what was removed."""

import threading
from dataclasses import replace

import pytest

from provider.drivers import single_update
from provider.drivers.single_update import Update, rename_single, update_single
from runtime.container import containers
from runtime.container.config import ContainerConfig, list_configs, read_config, write_config
from runtime.container.containers import Containers
from runtime.container.folders import bury, graveyard, state_folder
from runtime.errors import NotFoundError
from runtime.root import Root
from runtime.spec import Process, Spec


def rename(root):
    rename_single(root, "c1", "new")


def update(root):
    update_single(root, "c1", Update(cpus=0.5))


@pytest.fixture
def root(tmp_path):
    """A world with a container ``c1`` that is called ``old``."""
    root = Root.at(tmp_path)
    Containers(root).create(ContainerConfig("c1", "old", Spec(Process(("true",)))))
    return root


@pytest.mark.parametrize(("change", "reader"), [(rename, single_update), (update, containers)])
def test_what_is_removed_meanwhile_does_not_come_back(root, monkeypatch, change, reader):
    def read_and_remove(*names):
        config = read_config(*names)
        bury(state_folder(root, "c1"), graveyard(root) / "c1")
        return config

    monkeypatch.setattr(reader, "read_config", read_and_remove)
    with pytest.raises(NotFoundError, match="no container c1"):
        change(root)
    assert list(list_configs(root)) == []
    assert not state_folder(root, "c1").exists()


@pytest.mark.parametrize("change", [rename, update])
def test_another_change_waits_for_the_end_of_the_first(root, monkeypatch, change):
    other = threading.Thread(target=lambda: update_single(root, "c1", Update(pids=7)))

    class Paused:
        def __init__(self, _root):
            pass

        def update(self, config):
            if threading.current_thread() is not other:
                other.start()
                # It could be over by now; it has to wait until we are.
                other.join(0.3)
            write_config(root, config)
            return ()

    monkeypatch.setattr(single_update, "Containers", Paused)
    before = read_config(root, "c1")
    change(root)
    other.join()
    after = read_config(root, "c1")
    resources = after.spec.linux.resources
    assert resources.pids.limit == 7
    assert (after.name, resources.cpu) != (before.name, before.spec.linux.resources.cpu)
    assert replace(after, name="old", spec=before.spec) == before
