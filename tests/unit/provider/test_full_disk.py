"""The engine's own files cannot be written: what is at work is heard out, and it is told so."""

import errno
import os
import threading
from dataclasses import replace

import pytest

from provider.engine import storage
from provider.engine.journal import Journal
from provider.engine.ledger import Entry, Ledger
from provider.engine.lock import look
from provider.engine.observe import observe
from provider.engine.revision import Revision, Revisions
from provider.errors import ApplyError
from provider.model.ids import Kind
from provider.model.resource import Attempt
from provider.planning.document import report_json
from provider.planning.render import report_text
from tests.support import builders as b
from tests.support.memory import Host, fates

A, B = b.iid(Kind.CONTAINER, "a"), b.iid(Kind.CONTAINER, "b")
WANTED = b.desired(b.image(), b.network(), b.container("a"), b.container("b"))
CHANGED = b.desired(b.image(), b.network(), b.container("a", b.container_spec(user="me")))


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path, workers=2)


def refuse(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def at(monkeypatch, owner, name, nth):
    """Have the *nth* call, and all that follow, find the disk full."""
    original, calls = getattr(owner, name), []

    def call(*args, **kwargs):
        calls.append(args)
        return refuse() if len(calls) >= nth else original(*args, **kwargs)

    monkeypatch.setattr(owner, name, call)


@pytest.mark.parametrize("nth", [1, 2, 3, 4, 5, 6])
def test_an_entry_that_cannot_be_written_ends_the_apply_in_order(host, monkeypatch, nth):
    at(monkeypatch, storage.os, "rename", nth)
    report = host.apply(WANTED)
    assert report.failed
    (error,) = report.errors
    assert "cannot be written: No space left on device" in error.message
    assert error.message in " ".join(report_text(report, width=400).split())
    assert report_json(report)["errors"][0]["code"] == "unwritable"
    assert set(fates(report)) == {"Image/base", "Network/front", "Container/a", "Container/b"}
    monkeypatch.undo()
    assert not host.apply(WANTED).failed
    assert host.plan(WANTED).is_empty
    assert host.marks() == ["Container/a", "Container/b", "Image/base", "Network/front"]


def test_the_lock_is_held_until_the_last_worker_is_done(host, monkeypatch):
    """One is at work while the ledger entry of the other cannot be written."""
    refused, seen = threading.Event(), []

    def full(*_):
        refused.set()
        refuse()

    def step(text):
        if text == "create Container/a":
            assert refused.wait(10)
            seen.append(look(host.state, b.PROJECT).is_locked)
        elif text == "start Container/a":
            seen.append(look(host.state, b.PROJECT).is_locked)
        elif text == "create Container/b":
            monkeypatch.setattr(storage.os, "rename", full)

    host.world.before_step = step
    report = host.apply(WANTED)
    assert seen == [True, True]
    assert fates(report)["Container/a"] == "skipped"
    assert [r.begun for r in report.results if r.action.id.resource.name == "a"] == [True]


def test_no_space_to_note_that_an_action_is_started(host, monkeypatch):
    at(monkeypatch, Journal, "_write", 3)
    report = host.apply(WANTED)
    assert report.failed
    assert host.marks() == ["Image/base"]
    monkeypatch.undo()
    assert not host.apply(WANTED).failed
    assert host.plan(WANTED).is_empty


def test_no_space_for_the_journal_changes_nothing(host, monkeypatch):
    at(monkeypatch, Journal, "_write", 1)
    with pytest.raises(ApplyError, match="journal cannot be written: No space left on device"):
        host.apply(WANTED)
    assert host.world.things == {}
    monkeypatch.undo()
    assert not host.apply(WANTED).failed


def test_all_is_done_but_the_revision_cannot_be_written(host, monkeypatch):
    original = storage.os.rename

    def rename(source, target):
        return refuse() if "revisions" in str(target) else original(source, target)

    monkeypatch.setattr(storage.os, "rename", rename)
    report = host.apply(WANTED)
    assert set(fates(report).values()) == {"ok"}
    assert report.failed
    monkeypatch.undo()
    assert host.plan(WANTED).is_empty
    host.apply(WANTED)
    assert [r.result for r in Revisions(host.state, b.PROJECT).list()] == ["interrupted"]


def test_a_bug_is_raised_when_the_last_worker_is_done(host, monkeypatch):
    done = threading.Event()

    def bug(*_, **__):
        raise ZeroDivisionError("oops")

    def step(text):
        if text == "create Container/a":
            monkeypatch.setattr(Ledger, "write", bug)
        if text == "start Container/a":
            done.set()

    host.world.before_step = step
    with pytest.raises(ZeroDivisionError):
        host.apply(WANTED)
    assert done.is_set()


def test_what_could_not_be_written_leaves_no_rubbish(tmp_path, monkeypatch):
    monkeypatch.setattr(storage.os, "rename", refuse)
    with pytest.raises(OSError, match="No space"):
        storage.write_json(tmp_path / "x", {})
    assert list(tmp_path.iterdir()) == []


def test_a_lock_whose_note_could_not_be_written_is_ones_own(host, monkeypatch):
    """What an apply before left in its journal is seen all the same."""

    class KilledError(BaseException):
        pass

    def die(step):
        if step == "start Container/a":
            raise KilledError

    host.world.before_step = die
    host.workers = 1
    with pytest.raises(KilledError):
        host.apply(WANTED)
    host.world.before_step = lambda step: None
    monkeypatch.setattr(os, "pwrite", refuse)
    with host.lock():
        seen = observe(host.state, b.PROJECT, [host.driver], desired=WANTED, held=True)
    assert [str(o.id) for o in seen.observed if o.attempt] == ["Container/a"]


# -- a reader beside an apply


def test_an_apply_that_begins_while_one_looks_is_not_a_dead_one(host, monkeypatch):
    """It begins after the lock was looked at, and its journal is there when that is."""
    host.apply(WANTED)
    plan = host.plan(CHANGED)
    read, lock = Ledger.read, host.lock()
    journal = Journal(host.state, b.PROJECT)

    def late(ledger):
        monkeypatch.setattr(Ledger, "read", read)
        entries = read(ledger)
        lock.__enter__()
        journal.begin("next", plan.pending, {}, Revision(2, "", "me", (), "", "interrupted"))
        journal.started(next(action for action in plan.pending if action.id == A))
        return entries

    monkeypatch.setattr(Ledger, "read", late)
    seen = observe(host.state, b.PROJECT, [host.driver])
    journal.end()
    lock.__exit__(None, None, None)
    assert [str(o.id) for o in seen.observed if o.attempt] == []


def test_an_apply_that_ends_while_one_looks_is_not_seen_half_way(host, monkeypatch):
    host.apply(WANTED)
    read = Ledger.read

    def late(ledger):
        monkeypatch.setattr(Ledger, "read", read)
        with host.lock():
            entry = read(ledger)[A]
            waiting = Attempt("update", "replace", stage="settle")
            ledger.write(replace(entry, attempt=waiting))
            entries = read(ledger)
            ledger.write(entry)
        return entries

    monkeypatch.setattr(Ledger, "read", late)
    seen = observe(host.state, b.PROJECT, [host.driver])
    assert [str(o.id) for o in seen.observed if o.attempt] == []


# -- a loss of power


def test_an_entry_that_was_durable_is_replaced_by_one_that_is(host, monkeypatch):
    """Of no file that is not on the disk is anything in the place of one that was."""
    synced = set()
    fsync, rename = os.fsync, os.rename

    def noted(fd):
        synced.add(os.fstat(fd).st_ino)
        fsync(fd)

    def renamed(source, target):
        if os.path.exists(target) and str(target).endswith(".json"):
            replaced.append(str(target).rpartition("/")[2])
            assert os.stat(source).st_ino in synced
        rename(source, target)

    replaced = []
    host.apply(WANTED)
    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "rename", renamed)
    host.apply(CHANGED)
    assert replaced == ["Container_a_local_-1.json"]


@pytest.mark.parametrize("torn", ["", "\0" * 20, None])
def test_what_was_not_on_the_disk_when_the_power_went_counts_for_nothing(tmp_path, torn):
    ledger = Ledger(tmp_path, "shop")
    ledger.write(Entry(A, "old"))
    ledger.sync([A])
    ledger.write(Entry(A, "new"))
    ledger.write(Entry(B, "first"))
    if torn is None:
        assert {entry.object_id for entry in ledger.read().values()} == {"new", "first"}
        ledger.sync([A, B])
        assert {entry.object_id for entry in ledger.read().values()} == {"new", "first"}
        assert all(path.suffix == ".json" for path in ledger.folder.iterdir())
    else:
        for path in ledger.folder.glob("*.new"):
            path.write_text(torn)
        assert {entry.object_id for entry in ledger.read().values()} == {"old"}
    ledger.delete(A)
    ledger.delete(B)
    assert ledger.read() == {}
