"""Changes of one container that meet: none is lost."""

import threading
from dataclasses import replace

import pytest

from provider.drivers import single_update
from provider.drivers.single_update import Update, rename_single, update_single
from runtime.container.config import ContainerConfig, read_config, write_config
from runtime.root import Root
from runtime.spec import Process, Spec


@pytest.mark.parametrize(
    "change",
    [
        lambda root: rename_single(root, "c1", "new"),
        lambda root: update_single(root, "c1", Update(cpus=0.5)),
    ],
)
def test_another_change_waits_for_the_end_of_the_first(tmp_path, monkeypatch, change):
    root = Root.at(tmp_path)
    write_config(root, ContainerConfig(id="c1", name="old", spec=Spec(Process(("true",)))))
    other = threading.Thread(target=lambda: update_single(root, "c1", Update(pids=7)))

    class Containers:
        def __init__(self, _root):
            pass

        def update(self, config):
            if threading.current_thread() is not other:
                other.start()
                # It could be over by now; it has to wait until we are.
                other.join(0.3)
            write_config(root, config)
            return ()

    monkeypatch.setattr(single_update, "Containers", Containers)
    before = read_config(root, "c1")
    change(root)
    other.join()
    after = read_config(root, "c1")
    resources = after.spec.linux.resources
    assert resources.pids.limit == 7
    assert (after.name, resources.cpu) != (before.name, before.spec.linux.resources.cpu)
    assert replace(after, name="old", spec=before.spec) == before
