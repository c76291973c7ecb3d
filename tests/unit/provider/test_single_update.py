"""Changes of one container that meet: none is lost, and none brings back what was removed."""

import threading
from contextlib import suppress
from dataclasses import replace
from itertools import count

import pytest

from provider.cli.containers import called
from provider.drivers import single_update
from provider.drivers.single_update import Update, rename_single, update_single
from provider.errors import LockBusyError
from runtime.container import config
from runtime.container import update as container_update
from runtime.container.config import ContainerConfig, Join, list_configs, read_config
from runtime.container.containers import Containers
from runtime.container.folders import bury, graveyard, state_folder
from runtime.container.summary import summaries
from runtime.errors import NotFoundError
from runtime.network import attachment
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


@pytest.mark.parametrize(
    ("change", "reader"), [(rename, single_update), (update, container_update)]
)
def test_what_is_removed_meanwhile_does_not_come_back(root, monkeypatch, change, reader):
    def read_and_remove(*names):
        found = read_config(*names)
        bury(state_folder(root, "c1"), graveyard(root) / "c1")
        return found

    monkeypatch.setattr(reader, "read_config", read_and_remove)
    with pytest.raises(NotFoundError, match="no container c1"):
        change(root)
    assert list(list_configs(root)) == []
    assert not state_folder(root, "c1").exists()


@pytest.mark.parametrize("step", range(3))
@pytest.mark.parametrize("late", [False, True])
def test_a_rename_that_was_killed_is_finished_by_the_same_again(root, monkeypatch, step, late):
    known = {"net": ("old", "web", "old.run"), "other": ("old",)}
    joins = tuple(Join(name, names=names) for name, names in known.items())
    Containers(root).create(replace(read_config(root, "c1"), joins=joins))
    steps = count()

    def killable(act):
        def acting(*args, **options):
            now = next(steps) == step
            if now and not late:
                raise SystemExit
            act(*args, **options)
            if now:
                raise SystemExit

        return acting

    def set_names(_root, net, _container, names):
        known[net] = tuple(names)

    monkeypatch.setattr(attachment, "set_names", killable(set_names))
    monkeypatch.setattr(config, "replace_file", killable(config.replace_file))
    with suppress(SystemExit):
        rename(root)
    rename(root)
    found = read_config(root, "c1")
    assert found.name == "new"
    assert {join.network: join.names for join in found.joins} == known
    for names in known.values():
        assert "new" in names
        assert "old" not in names
    assert "web" in known["net"]


@pytest.mark.parametrize("change", [rename, update])
def test_who_waits_in_vain_is_told_to_try_again(root, monkeypatch, change):
    monkeypatch.setattr(config, "_CHANGED_WITHIN_S", 0.0)
    (found,) = summaries(root)
    with config.changing(root, "c1"), pytest.raises(LockBusyError) as raised, called(found, "old"):
        change(root)
    assert str(raised.value) == "somebody else is changing old, for 0 s"
    assert "try again" in raised.value.hint


@pytest.mark.parametrize("change", [rename, update])
def test_another_change_waits_for_the_end_of_the_first(root, monkeypatch, change):
    real = config.replace_file
    other = threading.Thread(target=lambda: update_single(root, "c1", Update(pids=7)))

    def paused(*args, **options):
        if threading.current_thread() is not other:
            other.start()
            # It could be over by now; it has to wait until we are.
            other.join(0.3)
        real(*args, **options)

    monkeypatch.setattr(config, "replace_file", paused)
    before = read_config(root, "c1")
    change(root)
    other.join()
    after = read_config(root, "c1")
    resources = after.spec.linux.resources
    assert resources.pids.limit == 7
    assert (after.name, resources.cpu) != (before.name, before.spec.linux.resources.cpu)
    assert replace(after, name="old", spec=before.spec) == before
