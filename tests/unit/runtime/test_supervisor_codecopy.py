"""The copy of the code that keeper and supervisor run."""

import os
import subprocess
import sys

from runtime.supervisor import codecopy
from runtime.supervisor.names import Code, own_code


def test_it_runs_and_knows_where_it_is_from(tmp_path):
    code = codecopy.keep(str(tmp_path), own_code())
    for given in (own_code(), code):
        assert codecopy.keep(str(tmp_path), given).folder == code.folder
    assert codecopy.origin(code.folder) == own_code().folder
    assert codecopy.name_of(code.folder) == codecopy.fingerprint(own_code().folder)
    script = "import sys; sys.path.append(sys.argv[1]); import runtime.version as v; print(v)"
    command = [sys.executable, "-I", "-S", "-c", script, code.folder]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert code.folder in done.stdout


def test_for_another_python_it_is_another_one(tmp_path, monkeypatch):
    ours = codecopy.keep(str(tmp_path), own_code()).folder
    others = codecopy.keep(str(tmp_path), Code("/usr/bin/another", own_code().folder)).folder
    monkeypatch.setattr(sys.implementation, "cache_tag", "cpython-999")
    monkeypatch.setattr(codecopy, "_bytecode", lambda *_: None)  # it would be left in the tree
    newer = codecopy.keep(str(tmp_path), own_code()).folder
    assert len({ours, others, newer}) == 3
    assert {codecopy.name_of(each) for each in (ours, others, newer)} == {codecopy.name_of(ours)}


def test_of_one_that_is_gone_all_that_can_be_said_is_where_it_was(tmp_path):
    assert codecopy.origin(str(tmp_path / "gone.zip")) == str(tmp_path / "gone.zip")
    assert codecopy.origin("/opt/tree") == "/opt/tree"


def test_a_broken_one_is_not_tried_for_a_while(tmp_path):
    folder = codecopy.keep(str(tmp_path), own_code()).folder
    assert codecopy.condemned(folder) is None
    codecopy.condemn(folder, "it ended with 3")
    assert codecopy.condemned(folder) == "it ended with 3"
    os.utime(f"{folder}.broken", (0, 0))
    assert codecopy.condemned(folder) is None


def test_old_ones_go_with_all_that_is_theirs(tmp_path):
    kept = codecopy.keep(str(tmp_path), own_code()).folder
    old = codecopy.keep(str(tmp_path), Code("/usr/bin/another", own_code().folder)).folder
    for each in (kept, old):
        codecopy.condemn(each, "why")
        for path in (each, f"{each}.broken"):
            os.utime(path, (0, 0))
    fresh = tmp_path / "code/12345678-any.zip"
    fresh.touch()
    codecopy.remove_others(str(tmp_path), kept)
    left = {kept, f"{kept}.broken", str(fresh)}
    assert {str(path) for path in (tmp_path / "code").iterdir()} == left
