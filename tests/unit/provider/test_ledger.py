"""Files of the engine: entries, journal, lock, revisions."""

import fcntl
import os
import stat
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from provider.engine.entry import object_of_run
from provider.engine.journal import Interrupted, Journal, Step, boot_id, fold
from provider.engine.ledger import Entry, Ledger
from provider.engine.lock import look, project_lock
from provider.engine.revision import Revision, Revisions
from provider.errors import LockBusyError, UnsupportedHostError
from provider.model.ids import Kind
from provider.model.plan import UNKNOWN, Action, Consequence, Need, Verb
from provider.model.resource import Attempt
from tests.support import builders as b

FULL = Entry(
    id=b.iid(Kind.SERVICE, "web", 2, host="h.example"),
    object_id="abc",
    effective={"container": {"env": {"A": "ü"}}},
    provenance={"container": "shop.yaml:1:2", "state": "no-\udcff-text.yaml:1:2"},
    record={"pid": 3},
    needs=(b.iid(Kind.NETWORK, "front"),),
    generation="g",
    stamp="s",
    attempt=Attempt("update", "live", "settle", "no luck", {"a": 1}, "z"),
    leftovers=("x", "y"),
)


def test_an_entry_survives_the_disk(tmp_path):
    ledger = Ledger(tmp_path, "shop")
    ledger.write(FULL)
    ledger.write(Entry(b.iid(Kind.CONFIG, "c")))
    assert ledger.read() == {FULL.id: FULL, b.iid(Kind.CONFIG, "c"): Entry(b.iid(Kind.CONFIG, "c"))}
    assert ledger.get(FULL.id) == FULL
    ledger.sync([FULL.id])
    assert ledger.get(FULL.id) == FULL
    assert ledger.get(b.iid(Kind.CONFIG, "other")) is None


def test_files_are_private(tmp_path):
    ledger = Ledger(tmp_path / "state", "shop")
    ledger.write(FULL)
    (file,) = ledger.folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    ledger.sync([FULL.id])
    (file,) = ledger.folder.iterdir()
    assert file.name == "Service_web_h.example_2.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for folder in (ledger.folder, ledger.folder.parent, tmp_path / "state"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_reading_creates_nothing(tmp_path):
    assert Ledger(tmp_path, "shop").read() == {}
    assert Journal(tmp_path, "shop").read() is None
    assert Revisions(tmp_path, "shop").list() == ()
    assert Revisions(tmp_path, "shop").last() is None
    assert not look(tmp_path, "shop").is_locked
    assert list(tmp_path.iterdir()) == []


def test_delete_and_sync_bear_repetition(tmp_path):
    ledger = Ledger(tmp_path, "shop")
    ledger.write(FULL)
    ledger.delete(FULL.id)
    ledger.delete(FULL.id)
    ledger.sync([FULL.id])
    assert ledger.read() == {}


def test_half_written_files_are_not_entries(tmp_path):
    ledger = Ledger(tmp_path, "shop")
    ledger.write(FULL)
    (ledger.folder / ".Service_web_local_0.json.99").write_text('{"half"')
    assert ledger.read() == {FULL.id: FULL}


def test_an_entry_of_the_future_is_not_misread(tmp_path):
    ledger = Ledger(tmp_path, "shop")
    ledger.write(FULL)
    (file,) = ledger.folder.iterdir()
    file.write_text(file.read_text().replace('"recordVersion":1', '"recordVersion":2'))
    with pytest.raises(UnsupportedHostError, match="record version 2"):
        ledger.read()


# -- journal

APP = b.iid(Kind.CONTAINER, "app")
CUT_OFF = Revision(1, "2026-01-01T00:00:00Z", "me", ("a",), "sha", "interrupted")


def begun(tmp_path, *actions, **object_ids):
    journal = Journal(tmp_path, "shop")
    names = {a.id: object_ids.get(a.id.resource.name, "") for a in actions}
    journal.begin("apply1", actions, names, CUT_OFF)
    return journal


def test_a_journal_tells_what_was_started(tmp_path):
    one = Action(APP, Verb.CREATE, after={"a": 1})
    two = Action(b.iid(Kind.CONTAINER, "two"), Verb.DELETE)
    journal = begun(tmp_path, one, two, app="o1")
    assert journal.read() == Interrupted("apply1", (), CUT_OFF)
    journal.started(one)
    step = Step(APP, "create", "none", "o1", None, {"a": 1})
    assert journal.read() == Interrupted("apply1", (step,), CUT_OFF)
    journal.end()
    assert journal.read() is None
    journal.end()


def test_a_journal_tells_what_only_the_apply_could_know(tmp_path):
    data = b.iid(Kind.VOLUME, "data")
    going = b.iid(Kind.CONTAINER, "going")
    needs = (Need(data), Need(going, lasts=False))
    create = Action(APP, Verb.CREATE, after={"id": UNKNOWN}, needs=needs)
    journal = begun(tmp_path, create, Action(going, Verb.DELETE), app="o1")
    journal.started(replace(create, after={"id": "d1"}))
    journal.close()
    (step,) = journal.read().started
    assert (step.intended, step.needs) == ({"id": "d1"}, (data,))
    (entry,) = fold({}, journal.read()).values()
    assert (entry.attempt.intended, entry.needs) == ({"id": "d1"}, (data,))


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_journal_cut_short_is_understood(tmp_path, cut):
    create = Action(APP, Verb.CREATE)
    journal = begun(tmp_path, create)
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole[:-cut])
    assert journal.read() == Interrupted("", ())
    journal.path.write_bytes(whole)
    journal.started(create)
    journal.close()
    marked = journal.path.read_bytes()
    journal.path.write_bytes(marked[:-cut])
    assert journal.read() == Interrupted("apply1", (), CUT_OFF)


def test_this_boot_has_a_name():
    assert boot_id() == boot_id()
    assert len(boot_id()) == 36


def folded(entry, verb, *, object_id="new", renamed_from=None):
    step = Step(APP, verb, str(Consequence.REPLACE), object_id, renamed_from, {"w": 1})
    entries = {entry.id: entry} if entry else {}
    return fold(entries, Interrupted("apply1", (step,)))


def test_what_was_done_is_not_suspect():
    done = Entry(APP, "new", {"w": 1}, stamp="apply1")
    assert folded(done, "update") == {APP: done}
    assert folded(None, "delete") == {}


def test_what_was_begun_is_suspect_and_leaves_its_object():
    attempt = Attempt("create", "replace", intended={"w": 1}, object_id="new")
    assert folded(None, "create") == {APP: Entry(APP, attempt=attempt, leftovers=("new",))}
    before = Entry(APP, "old", {"w": 0}, stamp="apply0", leftovers=("older",))
    found = folded(before, "update")[APP]
    assert (found.object_id, found.effective) == ("old", {"w": 0})
    assert found.leftovers == ("new", "older")
    assert found.attempt.verb == "update"


def test_a_rename_leaves_one_record():
    old = b.iid(Kind.CONTAINER, "old")
    entry = Entry(old, "o", {}, stamp="apply0")
    assert list(folded(entry, "update", renamed_from=old)) == [old]
    step = Step(APP, "update", "live", "", old, {})
    both = {old: entry, APP: Entry(APP, "o", {}, stamp="apply1")}
    assert list(fold(both, Interrupted("apply1", (step,)))) == [APP]


def test_without_a_journal_nothing_is_suspect():
    entries = {APP: Entry(APP, "o", {})}
    assert fold(entries, None) == entries


# -- lock


def test_a_second_apply_waits_and_is_told_for_whom(tmp_path):
    code = f"""if True:
        import sys
        from pathlib import Path
        from provider.engine.lock import project_lock
        with project_lock(Path({str(tmp_path)!r}), "shop", owner="root@box", reason="apply of x"):
            print("locked", flush=True)
            sys.stdin.read()
    """
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "locked\n"
        assert look(tmp_path, "shop").is_locked
        assert not look(tmp_path, "other").is_locked
        text = rf"project shop is locked by root@box \(process {holder.pid}\) since .*: apply of x"
        with (
            pytest.raises(LockBusyError, match=text),
            project_lock(tmp_path, "shop", owner="me", reason="test", timeout_s=0.1),
        ):
            pass
        waiter = threading.Thread(target=holder.stdin.close)
        waiter.start()
        with project_lock(tmp_path, "shop", owner="me", reason="test", timeout_s=30):
            waiter.join()
    assert not look(tmp_path, "shop").is_locked


def test_a_reader_who_looks_does_not_keep_an_apply_out(tmp_path):
    with project_lock(tmp_path, "shop", owner="me", reason="test"):
        pass
    with open(tmp_path / "projects/shop/lock", "rb") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        done = threading.Timer(0.02, fcntl.flock, (reader, fcntl.LOCK_UN))
        done.start()
        with project_lock(tmp_path, "shop", owner="me", reason="test", timeout_s=0):
            done.join()


def test_to_look_makes_no_lock_file(tmp_path):
    assert not look(tmp_path, "shop").is_locked
    assert list(tmp_path.iterdir()) == []


def test_the_lock_dies_with_its_holder(tmp_path):
    code = f"""if True:
        import os, signal
        from pathlib import Path
        from provider.engine.lock import project_lock
        with project_lock(Path({str(tmp_path)!r}), "shop", owner="a", reason="b"):
            os.kill(os.getpid(), signal.SIGKILL)
    """
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    with project_lock(tmp_path, "shop", owner="me", reason="test", timeout_s=0):
        pass


def test_two_projects_are_locked_side_by_side(tmp_path):
    with (
        project_lock(tmp_path, "one", owner="me", reason="test", timeout_s=0),
        project_lock(tmp_path, "two", owner="me", reason="test", timeout_s=0),
    ):
        pass


# -- revisions


def test_revisions_are_numbered_and_kept(tmp_path):
    history = Revisions(tmp_path, "shop")
    assert history.next_number == 1
    for number in (1, 2, 10):
        history.write(Revision(number, "2026-01-01T00:00:00Z", "me", ("a",), "sha", "ok", {"x": 1}))
    assert [r.number for r in history.list()] == [1, 2, 10]
    assert history.last().sources == ("a",)
    assert history.next_number == 11
    assert sorted(os.listdir(history.folder)) == ["0001.json", "0002.json", "0010.json"]


def test_the_run_of_a_job_that_a_version_before_left_is_found_by_what_it_left():
    """Its attempt does not name it."""
    left = replace(FULL, object_id="", leftovers=("new",), attempt=Attempt("run", "none"))
    assert object_of_run(left, {"new", "other"}) == "new"
    again = replace(FULL, object_id="old", leftovers=("new",), attempt=Attempt("run", "none"))
    assert object_of_run(again, {"new", "old"}) == "new"
    assert object_of_run(again, {"old"}) == "old"
    assert object_of_run(again, set()) == ""
    named = replace(again, attempt=Attempt("run", "none", object_id="this"))
    assert object_of_run(named, {"new", "old"}) == ""
